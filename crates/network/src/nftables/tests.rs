//! The encoder against a kernel: what is written is what is read; changes are small; refusals name their command.

use expect_test::expect;

use super::*;
use crate::testing::{Namespace, root};

fn frontend() -> Vec<Field> {
    vec![Field::Destination(Family::V4), Field::Protocol, Field::Port]
}

const FRONTEND: [Type; 3] = [Type::Ipv4Addr, Type::InetProto, Type::InetService];

fn key(last: u8, port: u16) -> Vec<Value> {
    vec![Value::V4([10, 43, 0, last].into()), Value::Protocol(Protocol::Tcp), Value::Port(port)]
}

/// A table with one of everything.
fn everything() -> Table {
    let mut table = Table::new("k3rs-test");
    let endpoint = [Type::Ipv4Addr, Type::InetService];
    let with = |types: &[Type]| [&FRONTEND[..], types].concat();
    let sets = [
        ("cluster", Set::new(&[Type::Ipv4Addr], DataType::Nothing).intervals()),
        ("blocks", Set::new(&[Type::Ipv4Addr, Type::InetService], DataType::Nothing).intervals()),
        ("services", Set::new(&FRONTEND, DataType::Verdict)),
        ("endpoints", Set::new(&with(&[Type::Mark]), DataType::Values(endpoint.to_vec()))),
        ("memory", Set::new(&with(&[Type::Ipv4Addr]), DataType::Values(endpoint.to_vec())).dynamic()),
        ("live", Set::new(&with(&endpoint), DataType::Nothing)),
    ];
    table.sets.extend(sets.map(|(name, set)| (name.to_owned(), set)));
    for net in ["10.42.0.0/16", "10.44.0.0/16", "10.45.0.0/16", "255.255.0.0/16"] {
        table.element("cluster", Key::network(net.parse().unwrap()), Data::Nothing);
    }
    let corner = |last, port| [Value::V4([10, 0, 0, last].into()), Value::Port(port)];
    table.element("blocks", Key::range(&corner(1, 80), &corner(9, 90)), Data::Nothing);
    table.element("services", Key::new(&key(1, 80)), Data::goto("pick"));
    table.element("services", Key::new(&key(2, 80)), Data::Verdict(Verdict::Drop));
    let target = [Value::V4([10, 42, 0, 5].into()), Value::Port(8080)];
    table.element("endpoints", Key::new(&[key(1, 80), vec![Value::Mark(0)]].concat()), Data::values(&target));
    table.element("live", Key::new(&[key(1, 80), target.to_vec()].concat()), Data::Nothing);
    chains(&mut table);
    table
}

fn chains(table: &mut Table) {
    let v4 = Statement::Family(Family::V4);
    let names = |text: &str| text.to_owned();
    table.chains.insert(names("prerouting"), Chain::base(ChainKind::Nat, Hook::Prerouting, -100));
    table.chain("prerouting").rule([v4.clone(), Statement::Dispatch { fields: frontend(), map: names("services") }]);
    table
        .chain("pick")
        .rule([v4.clone(), Statement::Mark(0x4000)])
        .rule([Statement::Translate {
            family: Family::V4,
            fields: [frontend(), vec![Field::Source(Family::V4)]].concat(),
            map: names("memory"),
        }])
        .rule([Statement::Translate {
            family: Family::V4,
            fields: [frontend(), vec![Field::Random(1)]].concat(),
            map: names("endpoints"),
        }]);
    table.chains.insert(names("postrouting"), Chain::base(ChainKind::Nat, Hook::Postrouting, 100));
    table.chain("postrouting").rule([Statement::Remember {
        key: vec![
            Field::OriginalDestination(Family::V4),
            Field::Protocol,
            Field::OriginalPort,
            Field::OriginalSource(Family::V4),
        ],
        data: vec![Field::Destination(Family::V4), Field::Port],
        memory: names("memory"),
        milliseconds: 10_800_000,
    }]);
    table.chain("postrouting").rule([Statement::Marked(0x4000), Statement::Translated, Statement::Masquerade]);
    table.chains.insert(names("forward"), Chain::base(ChainKind::Filter, Hook::Forward, 0));
    table
        .chain("forward")
        .rule([Statement::State(CtState::New), Statement::SourceIsLocal { not: true }, v4.clone()])
        .rule([v4.clone(), Statement::In { fields: vec![Field::Source(Family::V4)], set: names("cluster"), not: true }])
        .rule([
            v4,
            Statement::Is {
                field: Field::Destination(Family::V4),
                value: Value::V4([10, 43, 0, 9].into()),
                not: false,
            },
            Statement::DestinationIsLocal { not: false },
            Statement::Reject,
        ]);
}

/// Compares part by part: whole tables are too long to look at.
fn assert_holds(netfilter: &Netfilter, table: &Table) {
    let (found, wanted) = (netfilter.installed().unwrap(), Installed::of(table));
    assert_eq!(found.sets.keys().collect::<Vec<_>>(), wanted.sets.keys().collect::<Vec<_>>());
    assert_eq!(found.chains.keys().collect::<Vec<_>>(), wanted.chains.keys().collect::<Vec<_>>());
    for (name, set) in &wanted.sets {
        let found = &found.sets[name];
        assert!(found.same_definition(set), "{name}: {found:?}");
        assert_eq!(found.elements.len(), set.elements.len(), "{name}");
        let wrong = found.elements.iter().find(|(key, data)| set.elements.get(key) != Some(data));
        assert_eq!(wrong, None, "{name}");
    }
    for (name, chain) in &wanted.chains {
        assert_eq!(&found.chains[name], chain, "{name}");
    }
}

#[test]
fn the_kernel_holds_what_was_applied_and_a_second_time_nothing_is_sent() {
    let Some(namespace) = root().then(Namespace::new) else { return };
    namespace.run(|| {
        let table = everything();
        let mut netfilter = Netfilter::open("k3rs-test").unwrap();
        assert!(netfilter.apply(&table).unwrap() > 0);
        assert_eq!(netfilter.apply(&table).unwrap(), 0);

        // A successor that finds the table in the kernel sees the same.
        let mut successor = Netfilter::open("k3rs-test").unwrap();
        assert_holds(&successor, &table);
        assert_eq!(successor.apply(&table).unwrap(), 0);

        successor.remove().unwrap();
        assert_eq!(Netfilter::open("k3rs-test").unwrap().installed(), None);
    });
}

#[test]
fn a_change_touches_only_what_changed() {
    let before = everything();
    let mut after = before.clone();
    after.element("services", Key::new(&key(2, 80)), Data::goto("pick"));
    after.sets.get_mut("cluster").unwrap().elements.remove(&Key::network("10.44.0.0/16".parse().unwrap()));
    after.chain("extra").rule([Statement::Verdict(Verdict::Accept)]);
    after.element("services", Key::new(&key(3, 443)), Data::goto("extra"));
    let installed = Installed::of(&before);
    let commands: Vec<_> = diff(Some(&installed), &after).iter().map(ToString::to_string).collect();
    expect![[r#"
        add chain extra
        add rule extra accept
        delete element cluster { 10.44.0.0-10.44.255.255, }
        delete element services { 10.43.0.2 . tcp . 80, }
        add element services { 10.43.0.2 . tcp . 80 : goto pick, 10.43.0.3 . tcp . 443 : goto extra, }"#]]
    .assert_eq(&commands.join("\n"));

    let back = Installed::of(&after);
    let commands: Vec<_> = diff(Some(&back), &before).iter().map(ToString::to_string).collect();
    expect![[r#"
        flush chain extra
        add element cluster { 10.44.0.0-10.44.255.255, }
        delete element services { 10.43.0.2 . tcp . 80, 10.43.0.3 . tcp . 443, }
        add element services { 10.43.0.2 . tcp . 80 : drop, }
        delete chain extra"#]]
    .assert_eq(&commands.join("\n"));

    let Some(namespace) = root().then(Namespace::new) else { return };
    namespace.run(|| {
        let mut netfilter = Netfilter::open("k3rs-test").unwrap();
        for table in [&before, &after, &before] {
            netfilter.apply(table).unwrap();
            netfilter.refresh().unwrap();
            assert_holds(&netfilter, table);
        }
    });
}

#[test]
fn a_set_of_another_shape_replaces_the_table() {
    let before = Installed::of(&everything());
    let mut after = everything();
    after.sets.insert("live".to_owned(), Set::new(&[Type::Mark], DataType::Nothing));
    let commands = diff(Some(&before), &after);
    assert_eq!(commands[..2], [Command::DeleteTable, Command::AddTable]);
}

#[test]
fn a_refused_transaction_names_its_command_and_changes_nothing() {
    let Some(namespace) = root().then(Namespace::new) else { return };
    namespace.run(|| {
        let mut netfilter = Netfilter::open("k3rs-test").unwrap();
        let good = everything();
        netfilter.apply(&good).unwrap();
        let mut bad = good.clone();
        bad.element("services", Key::new(&key(7, 80)), Data::goto("pick"));
        bad.chain("pick").rule([Statement::Verdict(Verdict::Goto("nowhere".to_owned()))]);
        let error = netfilter.apply(&bad).unwrap_err().to_string();
        assert!(error.contains("at add rule pick goto nowhere: "), "{error}");
        netfilter.refresh().unwrap();
        assert_holds(&netfilter, &good);
    });
}

#[test]
fn ten_thousand_elements_take_one_transaction() {
    let Some(namespace) = root().then(Namespace::new) else { return };
    namespace.run(|| {
        let mut table = everything();
        for n in 0..10_000u32 {
            let address = Value::V4((0x0a2b_0100 + n).into());
            let key = [address, Value::Protocol(Protocol::Udp), Value::Port(53)];
            table.element("services", Key::new(&key), Data::goto("pick"));
        }
        let mut netfilter = Netfilter::open("k3rs-test").unwrap();
        netfilter.apply(&table).unwrap();
        // The kernel moves a set that has grown to a larger table in the background; a walk over both may pass some
        // elements by. Once it is done they are all met.
        let services = |netfilter: &Netfilter| netfilter.installed().unwrap().sets["services"].elements.len();
        for _ in 0..100 {
            netfilter.refresh().unwrap();
            if services(&netfilter) == services_of(&table) {
                break;
            }
        }
        assert_holds(&netfilter, &table);
    });
}

fn services_of(table: &Table) -> usize {
    Installed::of(table).sets["services"].elements.len()
}
