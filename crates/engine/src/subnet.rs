//! The range of addresses of a network: pure.

use std::net::Ipv4Addr;
use std::str::FromStr;

/// Fewer addresses would be no network.
const BITS_MAX: u8 = 30;

/// IPv4 addresses that begin alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    base: Ipv4Addr,
    bits: u8,
}

impl Subnet {
    /// The host's own address on the bridge: the first, as engines give it.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }

    /// The one at this place, counted from 0, that is neither the network's own, nor the host's, nor the one that means all.
    pub fn address(&self, place: u32) -> Option<Ipv4Addr> {
        (place < self.room()).then(|| Ipv4Addr::from_bits(self.base.to_bits() + 2 + place))
    }

    /// How many addresses there are to give.
    pub fn room(&self) -> u32 {
        (1 << (32 - u32::from(self.bits))) - 3
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        address.to_bits() & self.mask() == self.base.to_bits()
    }

    fn mask(&self) -> u32 {
        u32::MAX << (32 - u32::from(self.bits))
    }
}

impl std::fmt::Display for Subnet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

/// In CIDR notation, as engines say it.
impl FromStr for Subnet {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (base, bits) = text.split_once('/').ok_or(())?;
        let subnet = Self { base: base.parse().map_err(drop)?, bits: bits.parse().map_err(drop)? };
        let is_one = (1..=BITS_MAX).contains(&subnet.bits) && subnet.contains(subnet.base);
        is_one.then_some(subnet).ok_or(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_given_from_within() {
        let subnet: Subnet = "192.168.16.0/20".parse().unwrap();
        assert_eq!(subnet.to_string(), "192.168.16.0/20");
        assert_eq!(subnet.gateway(), Ipv4Addr::new(192, 168, 16, 1));
        assert_eq!(subnet.address(0), Some(Ipv4Addr::new(192, 168, 16, 2)));
        assert_eq!(subnet.address(subnet.room() - 1), Some(Ipv4Addr::new(192, 168, 31, 254)));
        assert_eq!(subnet.address(subnet.room()), None);
        assert!(!subnet.contains(Ipv4Addr::new(192, 168, 32, 1)));
        let least: Subnet = "10.0.0.4/30".parse().unwrap();
        assert_eq!((least.room(), least.address(0)), (1, Some(Ipv4Addr::new(10, 0, 0, 6))));
    }

    #[test]
    fn what_is_no_subnet_is_none() {
        for bad in
            ["", "10.0.0.0", "10.0.0.1/24", "10.0.0.0/31", "10.0.0.0/0", "10.0.0.0/x", "fd00::/64", "10.0.0.0/33"]
        {
            assert!(bad.parse::<Subnet>().is_err(), "{bad}");
        }
    }
}
