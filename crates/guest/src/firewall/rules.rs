//! The rules themselves: what is closed to one bridge, as chains of a table of our own (linux/netfilter/nf_tables.h).
//!
//! ```text
//! table inet rexec-<bridge> {
//!   chain input   { type filter hook input priority -160;   iifname <bridge> drop }
//!   chain forward { type filter hook forward priority -160; iifname <bridge> oifname <bridge> drop
//!                   iifname <bridge> meta nfproto ipv6 drop
//!                   iifname <bridge> udp dport 53 accept              and tcp
//!                   iifname <bridge> ip daddr 169.254.0.0/16 drop     and the others' metadata
//!                   iifname <bridge> ip daddr 10.1.0.0/16 tcp dport 80-90 accept      and what else may pass
//!                   iifname <bridge> ip daddr 10.0.0.0/8 drop         and the other private ranges }
//! }
//! ```
//!
//! Ranges and ports are two comparisons each, of what is first in them and what is last. From a closed bridge nothing is forwarded, and `input` begins by accepting what is for the gateway: its ports by TCP, and
//! names by TCP and UDP, at its address alone.
//!
//! A drop is final whatever other tables say, an acceptance is not: so these hold beside iptables, firewalld and the
//! engine's own, and change nothing for anybody else. They come before `mangle`.

use super::netlink::{APPEND, Attributes, CREATE, Command, Found, Socket};
use std::io;
use std::net::Ipv4Addr;

/// IPv4 and IPv6 in one table.
pub const FAMILY: u8 = 1;
const IPV4: u8 = 2;
const IPV6: u8 = 10;
/// Clouds' metadata services, by the bytes that addresses begin with. As `METADATA_V4` of the engine's own rules.
const METADATA: &[&[u8]] = &[&[169, 254], &[100, 100, 100, 200], &[168, 63, 129, 16], &[192, 0, 0, 192]];
/// As `PRIVATE_V4` there.
const PRIVATE: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
];
/// In an IPv4 header.
const DESTINATION_AT: u32 = 16;
/// In a TCP and a UDP header.
const DESTINATION_PORT_AT: u32 = 2;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Where names are asked for.
const DNS_PORT: u16 = 53;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;
const PRIORITY: i32 = -160;
/// The kernel's IFNAMSIZ: names are compared to its end.
const NAME_BYTES: usize = 16;

const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;

const TABLE_NAME: u16 = 1;
const TABLE_FLAGS: u16 = 2;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const FILTER: &str = "filter";
const DROP: u32 = 0;
const ACCEPT: u32 = 1;
const VERDICT_REGISTER: u32 = 0;
const REGISTER: u32 = 1;

/// What `meta` loads.
const FROM: u32 = 6;
const TO: u32 = 7;
const PROTOCOL: u32 = 15;
const TRANSPORT: u32 = 16;

/// What may leave a bridge, as `Leave` of the engine's own rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leave {
    Open(Vec<Pass>),
    Gateway { address: Ipv4Addr, ports: Vec<u16> },
}

/// As `Pass` of the engine's own rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    pub base: Ipv4Addr,
    pub bits: u8,
    pub ports: Option<(u16, u16)>,
}

/// One of a rule's expressions, over one register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// Loads what is known of the packet.
    Meta(u32),
    /// Loads bytes of the network header.
    Header {
        at: u32,
        bytes: u32,
    },
    /// Loads bytes of the transport header.
    Transport {
        at: u32,
        bytes: u32,
    },
    /// Goes on if the register begins so.
    Is(Vec<u8>),
    AtLeast(Vec<u8>),
    AtMost(Vec<u8>),
    Accept,
    Drop,
    /// None of ours.
    Other,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    name: String,
    kind: String,
    hook: u32,
    priority: i32,
    policy: u32,
    rules: Vec<Vec<Expression>>,
}

pub fn table(bridge: &str) -> String {
    format!("rexec-{bridge}")
}

/// What closes a machine to one bridge.
pub fn closing(bridge: &str, leave: &Leave) -> Vec<Chain> {
    use Expression::{Accept, AtLeast, AtMost, Drop, Header, Is, Meta, Transport};
    let mut name = bridge.as_bytes().to_vec();
    name.resize(NAME_BYTES, 0);
    let from = [Meta(FROM), Is(name.clone())];
    let drop = |matches: &[Expression]| [&from, matches, &[Drop]].concat();
    let for_address = |begins: &[u8]| {
        let header = Header { at: DESTINATION_AT, bytes: begins.len() as u32 };
        [Meta(PROTOCOL), Is(vec![IPV4]), header, Is(begins.to_vec())]
    };
    let in_range = |base: Ipv4Addr, bits: u8| {
        let rest = u32::MAX.checked_shr(bits.into()).unwrap_or(0);
        let (first, last) = (base.octets().to_vec(), (base.to_bits() | rest).to_be_bytes().to_vec());
        let header = Header { at: DESTINATION_AT, bytes: 4 };
        [Meta(PROTOCOL), Is(vec![IPV4]), header, AtLeast(first), AtMost(last)]
    };
    let to_ports = |protocol: u8, (first, last): (u16, u16)| {
        let [first, last] = [first, last].map(|port| port.to_be_bytes().to_vec());
        let header = Transport { at: DESTINATION_PORT_AT, bytes: 2 };
        [Meta(TRANSPORT), Is(vec![protocol]), header, AtLeast(first), AtMost(last), Accept]
    };
    let names = (DNS_PORT, DNS_PORT);
    let (mut forward, mut input) = (Vec::new(), Vec::new());
    match leave {
        Leave::Open(passes) => {
            forward.push(drop(&[Meta(TO), Is(name.clone())]));
            forward.push(drop(&[Meta(PROTOCOL), Is(vec![IPV6])]));
            forward.extend([UDP, TCP].map(|protocol| [&from[..], &to_ports(protocol, names)].concat()));
            forward.extend(METADATA.iter().map(|begins| drop(&for_address(begins))));
            forward.extend(passes.iter().map(|pass| {
                let to = in_range(pass.base, pass.bits);
                match pass.ports {
                    Some(ports) => [&from[..], &to, &to_ports(TCP, ports)].concat(),
                    None => [&from[..], &to, &[Accept]].concat(),
                }
            }));
            forward.extend(PRIVATE.iter().map(|(base, bits)| drop(&in_range(*base, *bits))));
        }
        Leave::Gateway { address, ports } => {
            forward.push(drop(&[]));
            let ports = ports.iter().map(|port| (TCP, (*port, *port)));
            input.extend(ports.chain([(TCP, names), (UDP, names)]).map(|(protocol, ports)| {
                [&from[..], &for_address(&address.octets()), &to_ports(protocol, ports)].concat()
            }));
        }
    }
    input.push(drop(&[]));
    let chain = |name: &str, hook, rules| Chain {
        name: name.into(),
        kind: FILTER.into(),
        hook,
        priority: PRIORITY,
        policy: ACCEPT,
        rules,
    };
    // In the order in which they are read back.
    vec![chain("forward", FORWARD, forward), chain("input", INPUT, input)]
}

/// Puts the chains in the place of whatever the table holds, at one moment.
pub fn replace(socket: &mut Socket, table: &str, chains: &[Chain]) -> io::Result<()> {
    let step = |kind, flags, attributes| Command { kind, flags, attributes };
    let named = || Attributes::default().text(TABLE_NAME, table);
    // There is no deleting what may not be there; made first, it is.
    let mut steps =
        vec![step(NEW_TABLE, CREATE, named()), step(DELETE_TABLE, 0, named()), step(NEW_TABLE, CREATE, named())];
    for chain in chains {
        steps.push(step(NEW_CHAIN, CREATE, chain.write(table)));
        for rule in &chain.rules {
            let attributes = Attributes::default().text(RULE_TABLE, table).text(RULE_CHAIN, &chain.name);
            let expressions =
                rule.iter().fold(Attributes::default(), |list, expression| list.nest(ELEMENT, expression.write()));
            steps.push(step(NEW_RULE, CREATE | APPEND, attributes.nest(RULE_EXPRESSIONS, expressions)));
        }
    }
    socket.commit(steps)
}

/// What the table holds, by name of chain; `None` when it is not there or asleep.
pub fn read(socket: &mut Socket, table: &str) -> io::Result<Option<Vec<Chain>>> {
    let flags = socket.list(GET_TABLE, |found| {
        (found.text(TABLE_NAME) == Some(table)).then(|| found.number(TABLE_FLAGS).unwrap_or_default())
    })?;
    if flags != [0] {
        return Ok(None);
    }
    let mut chains = socket.list(GET_CHAIN, |found| Chain::read(&found, table))?;
    chains.sort_by(|a, b| a.name.cmp(&b.name));
    let rules = socket.list(GET_RULE, |found| {
        let is_here = found.text(RULE_TABLE) == Some(table);
        is_here.then(|| (found.text(RULE_CHAIN).map(str::to_owned), expressions(&found)))
    })?;
    for (chain, expressions) in rules {
        if let Some(chain) = chains.iter_mut().find(|known| Some(&known.name) == chain.as_ref()) {
            chain.rules.push(expressions);
        }
    }
    Ok(Some(chains))
}

fn expressions(rule: &Found<'_>) -> Vec<Expression> {
    let list = rule.nest(RULE_EXPRESSIONS).unwrap_or(Found(&[]));
    list.map(|(_, expression)| Expression::read(&Found(expression)).unwrap_or(Expression::Other)).collect()
}

impl Chain {
    fn write(&self, table: &str) -> Attributes {
        let hook = Attributes::default()
            .number(HOOK_NUMBER, self.hook)
            .number(HOOK_PRIORITY, u32::from_be_bytes(self.priority.to_be_bytes()));
        Attributes::default()
            .text(CHAIN_TABLE, table)
            .text(CHAIN_NAME, &self.name)
            .nest(CHAIN_HOOK, hook)
            .number(CHAIN_POLICY, self.policy)
            .text(CHAIN_TYPE, &self.kind)
    }

    /// Without its rules. One that nothing leads to has neither hook nor policy.
    fn read(found: &Found<'_>, table: &str) -> Option<Self> {
        if found.text(CHAIN_TABLE)? != table {
            return None;
        }
        let hook = found.nest(CHAIN_HOOK);
        let of_hook = |kind| hook.as_ref().and_then(|hook| hook.number(kind));
        Some(Self {
            name: found.text(CHAIN_NAME)?.into(),
            kind: found.text(CHAIN_TYPE).unwrap_or_default().into(),
            hook: of_hook(HOOK_NUMBER).unwrap_or(u32::MAX),
            priority: of_hook(HOOK_PRIORITY).map_or(0, |number| i32::from_be_bytes(number.to_be_bytes())),
            policy: found.number(CHAIN_POLICY).unwrap_or(u32::MAX),
            rules: Vec::new(),
        })
    }
}

/// The kinds of each expression's own attributes.
mod of {
    pub const META: (u16, u16) = (1, 2);
    pub const CMP: (u16, u16, u16) = (1, 2, 3);
    pub const PAYLOAD: (u16, u16, u16, u16) = (1, 2, 3, 4);
    pub const IMMEDIATE: (u16, u16) = (1, 2);
    pub const EQUAL: u32 = 0;
    pub const AT_MOST: u32 = 3;
    pub const AT_LEAST: u32 = 5;
    pub const NETWORK_HEADER: u32 = 1;
    pub const TRANSPORT_HEADER: u32 = 2;
}

fn payload(header: u32, at: u32, bytes: u32) -> Attributes {
    let data = Attributes::default().number(of::PAYLOAD.0, REGISTER).number(of::PAYLOAD.1, header);
    data.number(of::PAYLOAD.2, at).number(of::PAYLOAD.3, bytes)
}

fn compared(how: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default().number(of::CMP.0, REGISTER).number(of::CMP.1, how);
    data.nest(of::CMP.2, Attributes::default().bytes(DATA_VALUE, value))
}

fn verdict(code: u32) -> Attributes {
    let data = Attributes::default().nest(DATA_VERDICT, Attributes::default().number(VERDICT_CODE, code));
    Attributes::default().number(of::IMMEDIATE.0, VERDICT_REGISTER).nest(of::IMMEDIATE.1, data)
}

impl Expression {
    fn write(&self) -> Attributes {
        let (name, data) = match self {
            Self::Meta(key) => ("meta", Attributes::default().number(of::META.0, REGISTER).number(of::META.1, *key)),
            Self::Header { at, bytes } => ("payload", payload(of::NETWORK_HEADER, *at, *bytes)),
            Self::Transport { at, bytes } => ("payload", payload(of::TRANSPORT_HEADER, *at, *bytes)),
            Self::Is(value) => ("cmp", compared(of::EQUAL, value)),
            Self::AtLeast(value) => ("cmp", compared(of::AT_LEAST, value)),
            Self::AtMost(value) => ("cmp", compared(of::AT_MOST, value)),
            Self::Accept => ("immediate", verdict(ACCEPT)),
            Self::Drop => ("immediate", verdict(DROP)),
            Self::Other => ("", Attributes::default()),
        };
        Attributes::default().text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, data)
    }

    fn read(found: &Found<'_>) -> Option<Self> {
        let data = found.nest(EXPRESSION_DATA)?;
        let has = |kind, value| data.number(kind) == Some(value);
        match found.text(EXPRESSION_NAME)? {
            "meta" if has(of::META.0, REGISTER) => Some(Self::Meta(data.number(of::META.1)?)),
            "payload" if has(of::PAYLOAD.0, REGISTER) => {
                let (at, bytes) = (data.number(of::PAYLOAD.2)?, data.number(of::PAYLOAD.3)?);
                match data.number(of::PAYLOAD.1)? {
                    of::NETWORK_HEADER => Some(Self::Header { at, bytes }),
                    of::TRANSPORT_HEADER => Some(Self::Transport { at, bytes }),
                    _ => None,
                }
            }
            "cmp" if has(of::CMP.0, REGISTER) => {
                let value = data.nest(of::CMP.2)?.value(DATA_VALUE)?.to_vec();
                match data.number(of::CMP.1)? {
                    of::EQUAL => Some(Self::Is(value)),
                    of::AT_LEAST => Some(Self::AtLeast(value)),
                    of::AT_MOST => Some(Self::AtMost(value)),
                    _ => None,
                }
            }
            "immediate" if has(of::IMMEDIATE.0, VERDICT_REGISTER) => {
                let verdict = data.nest(of::IMMEDIATE.1)?.nest(DATA_VERDICT)?;
                match verdict.number(VERDICT_CODE)? {
                    ACCEPT => Some(Self::Accept),
                    DROP => Some(Self::Drop),
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let gateway = Leave::Gateway { address: Ipv4Addr::new(172, 18, 0, 1), ports: vec![3128, 80] };
        let pass = |ports| Pass { base: Ipv4Addr::new(10, 1, 0, 0), bits: 16, ports };
        let open = Leave::Open(vec![pass(None), pass(Some((80, 90)))]);
        let all = [open, gateway].map(|leave| closing("rexec0", &leave)).concat();
        for expression in all.iter().flat_map(|chain| &chain.rules).flatten() {
            let bytes = expression.write().into_bytes();
            assert_eq!(Expression::read(&Found(&bytes)).as_ref(), Some(expression));
        }
        for chain in all {
            let bytes = chain.write("rexec-rexec0").into_bytes();
            let bare = Chain { rules: Vec::new(), ..chain };
            assert_eq!(Chain::read(&Found(&bytes), "rexec-rexec0"), Some(bare));
            assert_eq!(Chain::read(&Found(&bytes), "rexec-rexec1"), None);
        }
    }

    proptest! {
        #[test]
        fn no_answer_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let found = Found(&bytes);
            let _ = (Chain::read(&found, "a"), Expression::read(&found), expressions(&found));
        }
    }
}
