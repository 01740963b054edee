package safehttp

import (
	"net/netip"
	"net/url"
	"strconv"
)

// Check refuses what Do would refuse without connecting: ErrScheme, and a
// *RefusedError for an address written in the URL that the policy does not let be
// reached. What a name resolves to is seen by Do alone.
func (c *Client) Check(u *url.URL) error {
	if err := checkURL(u); err != nil {
		return err
	}
	addr, err := netip.ParseAddr(u.Hostname())
	if err != nil {
		return nil // a name
	}
	port, err := strconv.ParseUint(portOf(u), 10, 16)
	if err != nil {
		return ErrScheme
	}
	return c.policy.check(netip.AddrPortFrom(addr, uint16(port)))
}
