//! What kind of place an address leads to: pure.
//!
//! Invariant: a form that carries an IPv4 address within an IPv6 one is never milder than what it carries, so no other way
//! of writing an address opens what is closed. The registries of special-purpose addresses (RFC 6890 and what IANA added)
//! are followed, the other way round for IPv6: only `2000::/3` is public, since nothing else has been given out.
//!
//! Left to others: a network may translate by a prefix of its own (RFC 6052), which no address tells. Whoever runs such a
//! network denies that prefix by a rule.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// The public internet; ranges that are reserved for documentation count as such.
    Public,
    /// Clouds' metadata services: closed whatever a rule says.
    Metadata,
    /// This machine itself: loopback and unspecified. Closed whatever a rule says.
    Own,
    /// Private, shared (carrier-grade NAT), unique local, site-local: only by a rule that names the range.
    Private,
    /// Link-local that is not metadata: closed whatever a rule says.
    LinkLocal,
    /// Multicast, broadcast, reserved: closed whatever a rule says.
    Unusable,
}

impl Class {
    /// Whether it stays closed whatever a rule says.
    pub fn closed(self) -> bool {
        !matches!(self, Self::Public | Self::Private)
    }

    /// The worse of two readings of one address. Among those that are closed it only decides what is said.
    fn worse(self, other: Self) -> Self {
        if other.severity() > self.severity() { other } else { self }
    }

    fn severity(self) -> u8 {
        match self {
            Self::Public => 0,
            Self::Private => 1,
            Self::Unusable => 2,
            Self::LinkLocal => 3,
            Self::Own => 4,
            Self::Metadata => 5,
        }
    }
}

/// Where clouds keep credentials outside of 169.254.0.0/16, which all of them use as well.
const METADATA_V4: [Ipv4Addr; 3] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba
    Ipv4Addr::new(168, 63, 129, 16),   // Azure's WireServer; the address is public, the service is not
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle, the older cloud
];
const METADATA_V6: [Ipv6Addr; 6] = [
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),       // Google
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe), // Oracle
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),        // Scaleway
    Ipv6Addr::new(0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1),    // Akamai
    Ipv6Addr::new(0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200),  // Alibaba
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xa9fe, 0xa9fe),    // OpenStack
];

/// An IPv4-mapped address as the IPv4 address that a system dials for it; every other as it is.
pub fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

/// Looks through forms that carry an IPv4 address within an IPv6 one (mapped, compatible, translated, NAT64, 6to4, Teredo,
/// ISATAP): the worst of the form and of all that it may carry.
pub fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => carried(address).map(class_v4).fold(outer_v6(address), Class::worse),
    }
}

/// Every IPv4 address that this one may lead to by a form that carries it. One address may be read in several ways; which one
/// a translator takes cannot be known.
pub fn carried(address: Ipv6Addr) -> impl Iterator<Item = Ipv4Addr> {
    let octets = address.octets();
    let at = |places: [usize; 4]| Ipv4Addr::from(places.map(|place| octets[place]));
    let last = at([12, 13, 14, 15]);
    let mut found = [None; 5];
    match address.segments() {
        // Compatible (RFC 4291), mapped, translated (RFC 2765), NAT64 with the well-known prefix (RFC 6052).
        [0, 0, 0, 0, 0, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff, _, _]
        | [0, 0, 0, 0, 0xffff, 0, _, _]
        | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => found[0] = Some(last),
        // NAT64 of local use (RFC 8215): prefixes of 48, 56, 64 and 96 bits fit in. The shorter ones skip octet 8. What the
        // others leave as zeros reads as 0.0.0.0/8, which no translator sends anywhere: it is no reading.
        [0x64, 0xff9b, 1, ..] => {
            let shorter = [at([6, 7, 9, 10]), at([7, 9, 10, 11]), at([9, 10, 11, 12])];
            for (place, inner) in found.iter_mut().zip(shorter) {
                *place = (inner.octets()[0] != 0).then_some(inner);
            }
            found[3] = (!last.is_unspecified()).then_some(last);
        }
        // 6to4 (RFC 3056).
        [0x2002, ..] => found[0] = Some(at([2, 3, 4, 5])),
        // Teredo (RFC 4380): the server, and the client with all bits turned over.
        [0x2001, 0, ..] => {
            found[..2].copy_from_slice(&[Some(at([4, 5, 6, 7])), Some(Ipv4Addr::from_bits(!last.to_bits()))])
        }
        _ => {}
    }
    // ISATAP (RFC 5214) is an interface's id, below any prefix.
    if let [_, _, _, _, 0 | 0x0200, 0x5efe, ..] = address.segments() {
        found[4] = Some(last);
    }
    found.into_iter().flatten()
}

fn class_v4(address: Ipv4Addr) -> Class {
    if METADATA_V4.contains(&address) {
        return Class::Metadata;
    }
    match address.octets() {
        // Amazon's 169.254.170.2 and .23, Scaleway's .42.42 and Tencent's .0.23 lie in it too.
        [169, 254, ..] => Class::Metadata,
        [0 | 127, ..] => Class::Own,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] => Class::Private,
        // Shared address space; measurement within networks (RFC 2544).
        [100, 64..=127, ..] | [198, 18..=19, ..] => Class::Private,
        // Protocol assignments; the relays of 6to4, given back.
        [192, 0, 0, _] | [192, 88, 99, _] => Class::Unusable,
        [224..=255, ..] => Class::Unusable,
        _ => Class::Public,
    }
}

/// What the address is by itself, without what it carries.
fn outer_v6(address: Ipv6Addr) -> Class {
    if METADATA_V6.contains(&address) {
        return Class::Metadata;
    }
    match address.segments() {
        // Amazon's local services: metadata, the credentials of pods, time, names.
        [0xfd00, 0x0ec2, ..] => Class::Metadata,
        // Nothing by themselves: what they carry decides.
        [0, 0, 0, 0, 0, 0 | 0xffff, _, _] | [0, 0, 0, 0, 0xffff, 0, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
            Class::Public
        }
        [0x64, 0xff9b, 1, ..] => Class::Private,
        [0xfc00..=0xfdff, ..] | [0xfec0..=0xfeff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0x2001, 0, ..] => Class::Public,
        // Measurement within networks (RFC 5180).
        [0x2001, 2, 0, ..] => Class::Private,
        // The rest of the protocol assignments (2001::/23): ORCHID, drones' ids, anycast of protocols that nobody dials.
        [0x2001, 0..=0x01ff, ..] => Class::Unusable,
        [0x2000..=0x3fff, ..] => Class::Public,
        // Multicast, discard-only (100::/64), segment routing (5f00::/16), all that was never given out.
        _ => Class::Unusable,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(text: &str) -> Class {
        class(text.parse().unwrap())
    }

    #[test]
    fn ranges_end_where_their_registries_say() {
        use Class::{LinkLocal, Metadata, Own, Private, Public, Unusable};
        for (class, addresses) in [
            (
                Metadata,
                "169.254.0.0 169.254.169.254 169.254.170.2 169.254.255.255 100.100.100.200 168.63.129.16 192.0.0.192 \
                 fd00:ec2::254 fd00:ec2::23 fd20:ce::254 fd00:c1::a9fe:a9fe fd00:42::42 fd00:a9fe:a9fe::1 \
                 fd00:100::100:200 fe80::a9fe:a9fe",
            ),
            (Own, "127.0.0.0 127.0.0.1 127.255.255.255 0.0.0.0 0.1.2.3 0.255.255.255 :: ::1 ::2"),
            (
                Private,
                "10.0.0.0 10.255.255.255 172.16.0.0 172.31.255.255 192.168.0.0 192.168.255.255 100.64.0.0 \
                 100.127.255.255 100.100.100.199 198.18.0.0 198.19.255.255 fc00:: fdff:ffff:: fd00:ec1::1 fd20:ce::253 \
                 fec0::1 feff::1 2001:2::1",
            ),
            (LinkLocal, "fe80:: fe80::1 febf:ffff::1"),
            (
                Unusable,
                "224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 192.0.0.1 192.0.0.193 192.88.99.1 ff02::1 ff0e::1 \
                 100::1 5f00::1 4000::1 1fff::1 fe00::1 fbff::1 2001:1::1 2001:10::1 2001:20::1 2001:1ff::1 \
                 64:ff9b:2::1 64:ff9b::1:0:0 ::1:0:0:0 8000::",
            ),
            (
                Public,
                "1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.0 169.253.255.255 \
                 169.255.0.0 172.15.255.255 172.32.0.0 168.63.129.15 192.0.1.0 192.167.255.255 192.169.0.0 \
                 198.17.255.255 198.20.0.0 223.255.255.255 192.0.2.1 198.51.100.1 203.0.113.1 2001:db8::1 3fff::1 2000:: \
                 2001:200::1 2606:4700::1111 2620:4f:8000::1 3fff:ffff::1",
            ),
        ] {
            for address in addresses.split_whitespace() {
                assert_eq!(of(address), class, "{address}");
            }
        }
    }

    #[test]
    fn what_an_address_carries_is_judged() {
        use Class::{LinkLocal, Metadata, Own, Private, Public, Unusable};
        for (address, class) in [
            ("::ffff:169.254.169.254", Metadata),
            ("::ffff:127.0.0.1", Own),
            ("::ffff:10.0.0.1", Private),
            ("::ffff:8.8.8.8", Public),
            ("::ffff:255.255.255.255", Unusable),
            ("::169.254.169.254", Metadata),
            ("::8.8.8.8", Public),
            ("::ffff:0:169.254.169.254", Metadata),
            ("::ffff:0:192.168.0.1", Private),
            ("64:ff9b::169.254.169.254", Metadata),
            ("64:ff9b::10.0.0.1", Private),
            ("64:ff9b::8.8.8.8", Public),
            ("64:ff9b:1::8.8.8.8", Private),
            ("64:ff9b:1::127.0.0.1", Own),
            ("64:ff9b:1::0.0.0.1", Own),
            ("64:ff9b:1:808:8:800::", Private),
            ("64:ff9b:1:a9fe:a9:fe00::", Metadata),
            ("64:ff9b:1:7f00:0:100::", Own),
            ("64:ff9b:1:a9:fe:a9fe::", Metadata),
            ("64:ff9b:1:0:a9:fea9:fe00::", Metadata),
            ("64:ff9b:1:a9fe:a9:fe00:1:2", Metadata),
            ("2002:a9fe:a9fe::1", Metadata),
            ("2002:7f00:1::", Own),
            ("2002:c0a8:1::1", Private),
            ("2002:808:808::1", Public),
            ("2001:0:808:808::f7f7:f7f7", Public),
            ("2001:0:a9fe:a9fe::f7f7:f7f7", Metadata),
            ("2001:0:808:808::5601:5601", Metadata),
            ("2001:0:808:808::80ff:fffe", Own),
            ("2606:4700::5efe:10.0.0.1", Private),
            ("2606:4700::200:5efe:169.254.169.254", Metadata),
            ("2606:4700::5efe:8.8.8.8", Public),
            ("fe80::5efe:8.8.8.8", LinkLocal),
            ("2002:808:808::5efe:127.0.0.1", Own),
            ("fd00::5efe:8.8.8.8", Private),
        ] {
            assert_eq!(of(address), class, "{address}");
        }
    }

    #[test]
    fn only_mapped_addresses_become_ipv4() {
        for (from, to) in [("::ffff:1.2.3.4", "1.2.3.4"), ("::1.2.3.4", "::1.2.3.4"), ("1.2.3.4", "1.2.3.4")] {
            assert_eq!(canonical(from.parse().unwrap()), to.parse::<IpAddr>().unwrap());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_form_is_milder_than_what_it_carries(bits: u32, subnet: u64) {
            let inner = Ipv4Addr::from_bits(bits);
            let low = u128::from(bits);
            let subnet = u128::from(subnet);
            for form in [
                low,
                0xffff << 32 | low,
                0xffff << 48 | low,
                0x64_ff9b << 96 | low,
                0x2002 << 112 | low << 80 | subnet,
                0x2001_0000 << 96 | low << 64 | subnet,
                0x2001_0000 << 96 | subnet << 32 | u128::from(!bits),
                0x2606_4700 << 96 | 0x5efe << 32 | low,
                subnet << 64 | 0x0200_5efe << 32 | low,
            ] {
                let form = Ipv6Addr::from_bits(form);
                prop_assert!(class(form.into()).severity() >= class(inner.into()).severity(), "{form} carries {inner}");
                prop_assert!(carried(form).any(|found| found == inner), "{form} carries {inner}");
            }
        }

        #[test]
        fn local_translation_is_private_at_least(rest: [u8; 10]) {
            let mut octets = [0; 16];
            octets[..6].copy_from_slice(&[0, 0x64, 0xff, 0x9b, 0, 1]);
            octets[6..].copy_from_slice(&rest);
            prop_assert!(class(Ipv6Addr::from(octets).into()) != Class::Public);
        }

        #[test]
        fn canonical_addresses_are_of_the_same_class(bits: u32) {
            let mapped = IpAddr::V6(Ipv4Addr::from_bits(bits).to_ipv6_mapped());
            prop_assert_eq!(class(mapped), class(canonical(mapped)));
        }
    }
}
