//! What the settings ask of the kernel before the agent begins.

use crate::config::Config;

/// What upstream's kubelet expects of the kernel: file below `/proc/sys`, value.
const EXPECTED: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    #[error("the kernel is not set as protect-kernel-defaults asks: {0}; write that into /etc/sysctl.d and load it")]
    Defaults(String),
    #[error("swap is on, and fail-swap-on is set: turn it off with swapoff -a, or leave fail-swap-on out")]
    Swap,
}

/// Fails with everything that is not as it is asked for. `read` gives the content of a file below `/proc`.
pub(crate) fn check(config: &Config, read: impl Fn(&str) -> Option<String>) -> Result<(), KernelError> {
    if config.protect_kernel_defaults {
        let wrong = EXPECTED.iter().filter_map(|(file, expected)| {
            let found = read(&format!("sys/{file}")).unwrap_or_default();
            (found.trim() != *expected)
                .then(|| format!("{} is {}, not {expected}", file.replace('/', "."), found.trim()))
        });
        let wrong: Vec<String> = wrong.collect();
        if !wrong.is_empty() {
            return Err(KernelError::Defaults(wrong.join(", ")));
        }
    }
    // The first line is a heading.
    let swapping = || read("swaps").is_some_and(|swaps| swaps.lines().skip(1).any(|line| !line.trim().is_empty()));
    if config.fail_swap_on && swapping() { Err(KernelError::Swap) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(path: &str) -> Option<String> {
        let text = match path {
            "sys/vm/overcommit_memory" => "0\n",
            "sys/kernel/panic" => "10\n",
            "sys/kernel/panic_on_oops" => "1\n",
            "sys/vm/panic_on_oom" => "0\n",
            "sys/kernel/keys/root_maxkeys" => "1000000\n",
            "sys/kernel/keys/root_maxbytes" => "25000000\n",
            "swaps" => "Filename Type Size Used Priority\n/dev/vda2 partition 1 0 -2\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn the_kernel_is_checked_only_as_far_as_the_settings_ask() {
        let mut config = Config::new("n1");
        assert_eq!(check(&config, files), Ok(()));
        config.protect_kernel_defaults = true;
        let refused = check(&config, files).unwrap_err().to_string();
        assert!(refused.contains(": vm.overcommit_memory is 0, not 1;"), "{refused}");
        config.protect_kernel_defaults = false;
        config.fail_swap_on = true;
        assert_eq!(check(&config, files), Err(KernelError::Swap));
        assert_eq!(check(&config, |_| Some("Filename Type Size Used Priority\n".to_owned())), Ok(()));
    }
}
