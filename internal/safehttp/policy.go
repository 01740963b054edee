package safehttp

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// AllowKey is the configuration key whose entries a Policy usually holds.
const AllowKey = "worker.http.allow"

// A Policy lists what may be reached beyond the public internet. The zero Policy
// allows public addresses only.
type Policy struct {
	// Allow are networks that may be reached although they are not public.
	Allow []netip.Prefix
	// AllowHostPorts are "host:port" pairs in lower case that may be reached
	// whatever address the host has. Whoever runs that name's DNS is trusted.
	AllowHostPorts []string
	// Setting is the configuration key that errors name; "" is AllowKey.
	Setting string
}

// ParsePolicy is ParsePolicyOf AllowKey.
func ParsePolicy(entries []string) (Policy, error) { return ParsePolicyOf(AllowKey, entries) }

// ParsePolicyOf reads the entries of a setting, which are of four forms: a
// network (10.0.0.0/8), an address (10.1.2.3), a host with a port
// (hooks.internal:8080) and an address with a port (127.0.0.1:8080, [::1]:8080).
func ParsePolicyOf(setting string, entries []string) (Policy, error) {
	p := Policy{Setting: setting}
	for _, entry := range entries {
		text := strings.TrimSpace(entry)
		if prefix, ok := parsePrefix(text); ok {
			p.Allow = append(p.Allow, prefix)
			continue
		}
		hostPort, err := parseHostPort(text)
		if err != nil {
			return Policy{}, fmt.Errorf("parse %s entry %q: %w", setting, entry, err)
		}
		p.AllowHostPorts = append(p.AllowHostPorts, hostPort)
	}
	return p, nil
}

func parsePrefix(text string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(text); err == nil {
		addr = addr.Unmap().WithZone("")
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, false
	}
	// Addresses are compared unmapped, so a mapped network is too.
	if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
		prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
	}
	return prefix.Masked(), true
}

func parseHostPort(text string) (string, error) {
	const want = "want a network such as 10.0.0.0/8, an address, or host:port"
	host, port, err := net.SplitHostPort(text)
	if err != nil || host == "" || strings.ContainsAny(host, "/*@ ") {
		return "", fmt.Errorf("%s", want)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("port %q is not a number from 1 to 65535", port)
	}
	return canonicalHostPort(host, port), nil
}

// canonicalHostPort writes a pair in the one way in which pairs are compared.
func canonicalHostPort(host, port string) string {
	if addr, err := netip.ParseAddr(host); err == nil {
		return net.JoinHostPort(addr.Unmap().String(), port)
	}
	return net.JoinHostPort(strings.ToLower(strings.TrimSuffix(host, ".")), port)
}

// allowsHostPort reports whether the pair that is dialled, before any look-up,
// is listed.
func (p Policy) allowsHostPort(address string) bool {
	host, port, err := net.SplitHostPort(address)
	return err == nil && slices.Contains(p.AllowHostPorts, canonicalHostPort(host, port))
}

// check returns a *RefusedError unless the peer may be reached. Addresses that
// embed another one are judged by that one too.
func (p Policy) check(peer netip.AddrPort) error {
	if p.allowsHostPort(peer.String()) {
		return nil
	}
	if reason := p.fault(peer.Addr().Unmap().WithZone("")); reason != "" {
		return &RefusedError{Address: peer.String(), Reason: reason, Setting: p.Setting}
	}
	return nil
}

func (p Policy) fault(addr netip.Addr) string {
	for _, allowed := range p.Allow {
		if allowed.Contains(addr) {
			return ""
		}
	}
	if reason := reserved(addr); reason != "" {
		return reason
	}
	inner, form := embedded(addr)
	if !inner.IsValid() {
		return ""
	}
	if reason := p.fault(inner); reason != "" {
		return fmt.Sprintf("%s address of %s, %s", form, inner, reason)
	}
	return ""
}
