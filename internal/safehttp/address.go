package safehttp

import (
	"encoding/binary"
	"net/netip"
)

// ranges are the blocks that are no public destination, from the IANA IPv4 and
// IPv6 Special-Purpose Address Registries (RFC 6890 and its updates). A block
// inside another one stands before it, so that the reason is the nearer one.
var ranges = []struct {
	prefix netip.Prefix
	reason string
}{
	{netip.MustParsePrefix("0.0.0.0/32"), "an unspecified address"},
	{netip.MustParsePrefix("0.0.0.0/8"), "an address of this network"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier-grade NAT address"}, // RFC 6598
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.0.0.0/24"), "a protocol assignment"},
	{netip.MustParsePrefix("192.0.2.0/24"), "a documentation address"},
	{netip.MustParsePrefix("192.88.99.0/24"), "a 6to4 relay"}, // RFC 7526
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("198.18.0.0/15"), "a benchmark address"}, // RFC 2544
	{netip.MustParsePrefix("198.51.100.0/24"), "a documentation address"},
	{netip.MustParsePrefix("203.0.113.0/24"), "a documentation address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("255.255.255.255/32"), "the broadcast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},

	{netip.MustParsePrefix("::/128"), "an unspecified address"},
	{netip.MustParsePrefix("::1/128"), "a loopback address"},
	{netip.MustParsePrefix("64:ff9b:1::/48"), "a local translation address"}, // RFC 8215
	{netip.MustParsePrefix("100::/64"), "a discard address"},                 // RFC 6666
	{netip.MustParsePrefix("2001::/32"), "a Teredo address"},                 // RFC 4380
	{netip.MustParsePrefix("2001:2::/48"), "a benchmark address"},            // RFC 5180
	{netip.MustParsePrefix("2001::/23"), "a protocol assignment"},            // RFC 2928
	{netip.MustParsePrefix("2001:db8::/32"), "a documentation address"},      // RFC 3849
	{netip.MustParsePrefix("3fff::/20"), "a documentation address"},          // RFC 9637
	{netip.MustParsePrefix("fc00::/7"), "a private address"},                 // RFC 4193
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("fec0::/10"), "a site-local address"}, // RFC 3879
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

var (
	globalUnicast = netip.MustParsePrefix("2000::/3")        // RFC 3587
	translated    = netip.MustParsePrefix("::ffff:0:0:0/96") // RFC 7915
	nat64         = netip.MustParsePrefix("64:ff9b::/96")    // RFC 6052
	sixToFour     = netip.MustParsePrefix("2002::/16")       // RFC 3056
)

// reserved returns what kind of non-public address addr is, or "". An address
// that embeds an IPv4 address is not reserved for that reason alone.
func reserved(addr netip.Addr) string {
	for _, r := range ranges {
		if r.prefix.Contains(addr) {
			return r.reason
		}
	}
	if addr.Is6() && !globalUnicast.Contains(addr) && !nat64.Contains(addr) && !translated.Contains(addr) {
		return "an address outside global unicast"
	}
	return ""
}

// embedded returns the IPv4 address that a translator or tunnel would deliver
// to, and the name of the form; the zero Addr if there is none.
func embedded(addr netip.Addr) (inner netip.Addr, form string) {
	if !addr.Is6() {
		return netip.Addr{}, ""
	}
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), "NAT64"
	case translated.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), "IPv4-translated"
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), "6to4"
	case binary.BigEndian.Uint32(b[8:12])&^0x02000000 == 0x00005efe: // RFC 5214, 6.1
		return netip.AddrFrom4([4]byte(b[12:16])), "ISATAP"
	}
	return netip.Addr{}, ""
}
