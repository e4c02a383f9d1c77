//! IP addresses and CIDRs. Addresses with zones and IPv4 ones written as IPv6 are refused.

use std::fmt;
use std::net::IpAddr;

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::validation::quote;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

/// An IP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub IpAddr);

/// An IP address with the length of a prefix; bits beyond the prefix may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: IpAddr,
    pub prefix: u8,
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "ip",
        overloads: &["string_to_ip (string) -> net.IP", "cidr_ip net.CIDR.() -> net.IP"],
        run: |_, args| match args {
            [Value::Cidr(cidr)] => Ok(Value::Address(Address(cidr.address))),
            _ => Ok(Value::Address(Address(parse_address(text(args)?)?))),
        },
    },
    Function {
        name: "family",
        overloads: &["ip_family net.IP.() -> int"],
        run: |_, args| Ok(Value::Int(if address(args)?.is_ipv4() { 4 } else { 6 })),
    },
    Function {
        name: "ip.isCanonical",
        overloads: &["ip_is_canonical (string) -> bool"],
        run: |_, args| Ok(Value::Bool(parse_address(text(args)?)?.to_string() == text(args)?)),
    },
    Function {
        name: "isUnspecified",
        overloads: &["ip_is_unspecified net.IP.() -> bool"],
        run: |_, args| Ok(Value::Bool(address(args)?.is_unspecified())),
    },
    Function {
        name: "isLoopback",
        overloads: &["ip_is_loopback net.IP.() -> bool"],
        run: |_, args| Ok(Value::Bool(address(args)?.is_loopback())),
    },
    Function {
        name: "isLinkLocalMulticast",
        overloads: &["ip_is_link_local_multicast net.IP.() -> bool"],
        run: |_, args| address(args).map(|address| Value::Bool(is_link_local_multicast(address))),
    },
    Function {
        name: "isLinkLocalUnicast",
        overloads: &["ip_is_link_local_unicast net.IP.() -> bool"],
        run: |_, args| address(args).map(|address| Value::Bool(is_link_local_unicast(address))),
    },
    Function {
        name: "isGlobalUnicast",
        overloads: &["ip_is_global_unicast net.IP.() -> bool"],
        run: |_, args| address(args).map(|address| Value::Bool(is_global_unicast(address))),
    },
    Function {
        name: "isIP",
        overloads: &["is_ip (string) -> bool"],
        run: |_, args| Ok(Value::Bool(parse_address(text(args)?).is_ok())),
    },
    Function {
        name: "string",
        overloads: &["ip_to_string (net.IP) -> string", "cidr_to_string (net.CIDR) -> string"],
        run: |_, args| match args {
            [Value::Cidr(cidr)] => Ok(Value::text(cidr.to_string())),
            _ => Ok(Value::text(address(args)?.to_string())),
        },
    },
    Function {
        name: "cidr",
        overloads: &["string_to_cidr (string) -> net.CIDR"],
        run: |_, args| stated_cidr(text(args)?).map(Value::Cidr),
    },
    Function {
        name: "containsIP",
        overloads: &[
            "cidr_contains_ip_string net.CIDR.(string) -> bool",
            "cidr_contains_ip_ip net.CIDR.(net.IP) -> bool",
        ],
        run: |_, args| contains_ip(args),
    },
    Function {
        name: "containsCIDR",
        overloads: &[
            "cidr_contains_cidr_string net.CIDR.(string) -> bool",
            "cidr_contains_cidr net.CIDR.(net.CIDR) -> bool",
        ],
        run: |_, args| contains_cidr(args),
    },
    Function {
        name: "prefixLength",
        overloads: &["cidr_prefix_length net.CIDR.() -> int"],
        run: |_, args| Ok(Value::Int(i64::from(cidr(args)?.prefix))),
    },
    Function {
        name: "masked",
        overloads: &["cidr_masked net.CIDR.() -> net.CIDR"],
        run: |_, args| Ok(Value::Cidr(cidr(args)?.masked())),
    },
    Function {
        name: "isCIDR",
        overloads: &["is_cidr (string) -> bool"],
        run: |_, args| Ok(Value::Bool(parse_cidr(text(args)?).is_ok())),
    },
];

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.address, self.prefix)
    }
}

impl Address {
    /// In bytes.
    pub(in crate::cel) fn cost_size(&self) -> u64 {
        if self.0.is_ipv4() { 4 } else { 16 }
    }
}

impl Cidr {
    /// The bytes that the prefix takes.
    pub(in crate::cel) fn cost_size(&self) -> u64 {
        u64::from(self.prefix.div_ceil(8))
    }

    fn masked(&self) -> Self {
        Self { address: masked(self.address, self.prefix), prefix: self.prefix }
    }

    fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == masked(self.address, self.prefix)
    }
}

fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(address) & mask).into())
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(address) & mask).into())
        }
    }
}

fn address(args: &[Value<'_>]) -> Result<IpAddr, EvaluationError> {
    match args.first() {
        Some(Value::Address(address)) => Ok(address.0),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn cidr<'v>(args: &'v [Value<'_>]) -> Result<&'v Cidr, EvaluationError> {
    match args.first() {
        Some(Value::Cidr(cidr)) => Ok(cidr),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn is_link_local_multicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[..3] == [224, 0, 0],
        IpAddr::V6(address) => address.segments()[0] & 0xff0f == 0xff02,
    }
}

fn is_link_local_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Also of private networks: whatever may be routed at all.
fn is_global_unicast(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(is_broadcast
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_link_local_unicast(address))
}

fn is_mapped(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.to_ipv4_mapped().is_some())
}

/// Why a text is no address, as Go's `net/netip` says it.
fn unparsed(text: &str) -> String {
    let reason = match text.find(['.', ':', '%']).map(|at| &text[at..=at]) {
        Some(".") => unparsed_v4(text),
        Some("%") => "missing IPv6 address".to_owned(),
        _ => "unable to parse IP".to_owned(),
    };
    format!("ParseAddr({}): {reason}", quote(text))
}

fn unparsed_v4(text: &str) -> String {
    let (mut fields, mut value, mut digits) = (0, 0, 0);
    for (at, c) in text.char_indices() {
        match c.to_digit(10) {
            Some(_) if digits == 1 && value == 0 => return "IPv4 field has octet with leading zero".to_owned(),
            Some(digit) => {
                (value, digits) = (value * 10 + digit, digits + 1);
                if value > 255 {
                    return "IPv4 field has value >255".to_owned();
                }
            }
            None if c == '.' => {
                let rest = &text[at..];
                if digits == 0 || rest.len() == 1 {
                    return format!("IPv4 field must have at least one digit (at {})", quote(rest));
                }
                if fields == 3 {
                    return "IPv4 address too long".to_owned();
                }
                (fields, value, digits) = (fields + 1, 0, 0);
            }
            None => return format!("unexpected character (at {})", quote(&text[at..])),
        }
    }
    "IPv4 address too short".to_owned()
}

fn parse_address(text: &str) -> Result<IpAddr, EvaluationError> {
    let quoted = quote(text);
    if let Some((address, zone)) = text.split_once('%')
        && !zone.is_empty()
        && address.parse::<std::net::Ipv6Addr>().is_ok()
    {
        return Err(EvaluationError::failed(format_args!("IP address {quoted} with zone value is not allowed")));
    }
    let address: IpAddr = text.parse().map_err(|_| {
        let reason = unparsed(text);
        EvaluationError::failed(format_args!("IP Address {quoted} parse error during conversion from string: {reason}"))
    })?;
    match is_mapped(address) {
        true => Err(EvaluationError::failed(format_args!("IPv4-mapped IPv6 address {quoted} is not allowed"))),
        false => Ok(address),
    }
}

fn parse_cidr(text: &str) -> Result<Cidr, EvaluationError> {
    let quoted = quote(text);
    let wrong = |reason: &str| {
        let parsed = format!("netip.ParsePrefix({quoted}): {reason}");
        EvaluationError::failed(format_args!("network address parse error during conversion from string: {parsed}"))
    };
    let (address, bits) = text.rsplit_once('/').ok_or_else(|| wrong("no '/'"))?;
    let address: IpAddr = address.parse().map_err(|_| wrong(&unparsed(address)))?;
    if bits.is_empty() || bits.len() > 1 && !bits.starts_with(|c: char| ('1'..='9').contains(&c)) {
        return Err(wrong(&format!("bad bits after slash: {}", quote(bits))));
    }
    let prefix: u8 = bits.parse().map_err(|_| wrong(&format!("bad bits after slash: {}", quote(bits))))?;
    if prefix > if address.is_ipv4() { 32 } else { 128 } {
        return Err(wrong("prefix length out of range"));
    }
    match is_mapped(address) {
        true => Err(EvaluationError::failed(format_args!("IPv4-mapped IPv6 address {quoted} is not allowed"))),
        false => Ok(Cidr { address, prefix }),
    }
}

/// A CIDR that an expression states, which upstream reports twice over where it is none.
fn stated_cidr(text: &str) -> Result<Cidr, EvaluationError> {
    let twice = |error| {
        EvaluationError::failed(format_args!("network address parse error during conversion from string: {error}"))
    };
    parse_cidr(text).map_err(twice)
}

fn contains_ip<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let network = cidr(args)?;
    match args.get(1) {
        Some(Value::Address(address)) => Ok(Value::Bool(network.contains(address.0))),
        Some(Value::String(text)) => Ok(Value::Bool(network.contains(parse_address(text)?))),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn contains_cidr<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let network = cidr(args)?;
    let other = match args.get(1) {
        Some(Value::Cidr(other)) => *other,
        Some(Value::String(text)) => stated_cidr(text)?,
        _ => return Err(EvaluationError::NoSuchOverload),
    };
    Ok(Value::Bool(network.prefix <= other.prefix && network.contains(other.address)))
}
