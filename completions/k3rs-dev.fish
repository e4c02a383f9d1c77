# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_k3rs_dev_global_optspecs
    string join \n kubeconfig= data= q/quiet plain no-color= h/help V/version
end

function __fish_k3rs_dev_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_k3rs_dev_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_k3rs_dev_using_subcommand
    set -l cmd (__fish_k3rs_dev_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -s V -l version -d 'Print version'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "cluster" -d 'Create, list, start, stop and delete clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "node" -d 'List nodes, look around in them'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "kubeconfig" -d 'Get at a cluster'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "image" -d 'Build node images, give images to clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "completion" -d 'Print a shell\'s completion script'
complete -c k3rs-dev -n "__fish_k3rs_dev_needs_command" -f -a "version" -d 'Print the version'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "create" -d 'Make a cluster: a server and any number of agents'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "list" -d 'List clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "ls" -d 'List clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "start" -d 'Start stopped clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "stop" -d 'Stop clusters; their data stay'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "delete" -d 'Delete clusters with their data'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and not __fish_seen_subcommand_from create list ls start stop delete rm" -f -a "rm" -d 'Delete clusters with their data'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -s a -l agents -d 'How many agents join the server' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l runtime -d 'Where nodes run' -r -f -a "auto\t'Docker where an engine answers, else native'
native\t''
docker\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l api-port -d 'Where the host offers the API: [HOST:]PORT (default: 127.0.0.1 and any free port)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -s p -l port -d 'Publish a port of a node: [HOST:][HOSTPORT:]PORT[/PROTO][@FILTER]' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l k3rs-arg -d 'Pass an argument to the k3rs of some nodes: --FLAG=VALUE[@FILTER]' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -s i -l image -d 'Node image to use, a name that `image list` or the engine knows (default: this binary)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l token -d 'Secret with which nodes join (default: random)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l wait -d 'Return when nodes are Ready and names resolve' -r -f -a "true\t''
false\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l timeout -d 'How long to wait, such as 90s or 5m; 0 is for ever' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l kubeconfig-update-default -d 'Add the cluster to the kubeconfig' -r -f -a "true\t''
false\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l kubeconfig-switch-context -d 'Make the cluster the kubeconfig\'s current context' -r -f -a "true\t''
false\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l no-rollback -d 'Keep what was made when something fails'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l dry-run -d 'Only print what would be done, as JSON'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from create" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -l no-headers -d 'No header line'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -l no-headers -d 'No header line'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l wait -d 'Return when nodes are Ready and names resolve' -r -f -a "true\t''
false\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l timeout -d 'How long to wait, such as 90s or 5m; 0 is for ever' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -s a -l all -d 'All clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -s a -l all -d 'All clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from stop" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -s a -l all -d 'All clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -s y -l yes -d 'Delete all without asking; needed where there is no terminal to ask at'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from delete" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -s a -l all -d 'All clusters'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -s y -l yes -d 'Delete all without asking; needed where there is no terminal to ask at'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand cluster; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -f -a "list" -d 'List nodes'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -f -a "ls" -d 'List nodes'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and not __fish_seen_subcommand_from list ls shell" -f -a "shell" -d 'Run a shell, or a program, in a node'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -l no-headers -d 'No header line'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -l no-headers -d 'No header line'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand node; and __fish_seen_subcommand_from shell" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -f -a "get" -d 'Print a cluster\'s kubeconfig'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -f -a "merge" -d 'Add a cluster to the user\'s kubeconfig'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and not __fish_seen_subcommand_from get merge write" -f -a "write" -d 'Write a cluster\'s kubeconfig to a file of its own'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -s o -l output -d 'How to print it' -r -f -a "yaml\t''
json\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from get" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -l switch-context -d 'Make it the current context' -r -f -a "true\t''
false\t''"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from merge" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -s o -l output -d 'Where to' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand kubeconfig; and __fish_seen_subcommand_from write" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -f -a "build" -d 'Build the node image of this binary'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -f -a "list" -d 'List the node images built so far'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -f -a "ls" -d 'List the node images built so far'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -f -a "import" -d 'Give images to the nodes of a cluster'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and not __fish_seen_subcommand_from build list ls import load" -f -a "load" -d 'Give images to the nodes of a cluster'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -s o -l output -d 'Write it to a file, as an OCI archive' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from build" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -s c -l cluster -d 'Cluster to give them to' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -l timeout -d 'How long to wait for the nodes, such as 90s or 5m; 0 is for ever' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from import" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -s c -l cluster -d 'Cluster to give them to' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -l timeout -d 'How long to wait for the nodes, such as 90s or 5m; 0 is for ever' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand image; and __fish_seen_subcommand_from load" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand completion" -s h -l help -d 'Print help'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -s o -l output -d 'How to print it' -r -f -a "table\t''
json\t''
name\t'Bare names, one a line'"
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -l kubeconfig -d 'Kubeconfig to change (a list as kubectl takes it; default ~/.kube/config)' -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -l data -d 'Where clusters and images are kept' -r -F
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -l no-color -r
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -s q -l quiet -d 'Only errors'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -l plain -d 'No colours, no moving lines'
complete -c k3rs-dev -n "__fish_k3rs_dev_using_subcommand version" -s h -l help -d 'Print help (see more with \'--help\')'
