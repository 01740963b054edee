package safehttp

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func TestPolicyCheck(t *testing.T) {
	tests := []struct {
		name  string
		allow string // blank-separated entries
		peer  string
		want  string // part of the reason; "" means reached
	}{
		{"public", "", "8.8.8.8:443", ""},
		{"public IPv6", "", "[2606:4700::1111]:443", ""},
		{"next to a private block", "", "172.32.0.1:80", ""},
		{"next to carrier-grade NAT", "", "100.128.0.1:80", ""},

		{"loopback", "", "127.0.0.1:80", "loopback"},
		{"all of loopback", "", "127.255.3.4:80", "loopback"},
		{"unspecified", "", "0.0.0.0:80", "unspecified"},
		{"this network", "", "0.1.2.3:80", "this network"},
		{"private 10", "", "10.1.2.3:80", "private"},
		{"private 172.16", "", "172.31.255.255:80", "private"},
		{"private 192.168", "", "192.168.1.1:80", "private"},
		{"carrier-grade NAT", "", "100.64.0.1:80", "carrier-grade"},
		{"metadata service", "", "169.254.169.254:80", "link-local"},
		{"protocol assignment", "", "192.0.0.8:80", "protocol"},
		{"documentation 1", "", "192.0.2.1:80", "documentation"},
		{"documentation 2", "", "198.51.100.1:80", "documentation"},
		{"documentation 3", "", "203.0.113.1:80", "documentation"},
		{"benchmark", "", "198.19.255.255:80", "benchmark"},
		{"multicast", "", "224.0.0.1:80", "multicast"},
		{"reserved", "", "240.0.0.1:80", "reserved"},
		{"broadcast", "", "255.255.255.255:80", "broadcast"},

		{"loopback IPv6", "", "[::1]:80", "loopback"},
		{"unspecified IPv6", "", "[::]:80", "unspecified"},
		{"unique local", "", "[fd12:3456::1]:80", "private"},
		{"metadata service IPv6", "", "[fd00:ec2::254]:80", "private"},
		{"link-local IPv6", "", "[fe80::1]:80", "link-local"},
		{"link-local with zone", "", "[fe80::1%eth0]:80", "link-local"},
		{"site-local", "", "[fec0::1]:80", "site-local"},
		{"multicast IPv6", "", "[ff02::1]:80", "multicast"},
		{"documentation IPv6", "", "[2001:db8::1]:80", "documentation"},
		{"new documentation IPv6", "", "[3fff::1]:80", "documentation"},
		{"benchmark IPv6", "", "[2001:2::1]:80", "benchmark"},
		{"discard", "", "[100::1]:80", "discard"},
		{"Teredo", "", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]:80", "Teredo"},
		{"local translation", "", "[64:ff9b:1::8.8.8.8]:80", "translation"},
		{"segment routing", "", "[5f00::1]:80", "outside global unicast"},
		{"IPv4-compatible", "", "[::127.0.0.1]:80", "outside global unicast"},

		{"mapped loopback", "", "[::ffff:127.0.0.1]:80", "loopback"},
		{"mapped private", "", "[::ffff:a01:203]:80", "private"},
		{"mapped public", "", "[::ffff:8.8.8.8]:80", ""},
		{"NAT64 loopback", "", "[64:ff9b::7f00:1]:80", "NAT64 address of 127.0.0.1, a loopback"},
		{"NAT64 metadata", "", "[64:ff9b::169.254.169.254]:80", "link-local"},
		{"NAT64 public", "", "[64:ff9b::8.8.8.8]:80", ""},
		{"translated private", "", "[::ffff:0:10.0.0.1]:80", "IPv4-translated address of 10.0.0.1"},
		{"6to4 private", "", "[2002:c0a8:101::1]:80", "6to4 address of 192.168.1.1"},
		{"6to4 loopback", "", "[2002:7f00:1::]:80", "loopback"},
		{"6to4 public", "", "[2002:808:808::1]:80", ""},
		{"ISATAP private", "", "[2606:4700::5efe:10.0.0.1]:80", "ISATAP address of 10.0.0.1"},
		{"ISATAP private, universal bit", "", "[2606:4700::200:5efe:10.0.0.1]:80", "ISATAP"},

		{"allowed network", "10.0.0.0/8", "10.1.2.3:80", ""},
		{"other network allowed", "10.0.0.0/8", "192.168.1.1:80", "private"},
		{"allowed network, mapped form", "10.0.0.0/8", "[::ffff:10.1.2.3]:80", ""},
		{"allowed mapped network", "::ffff:10.0.0.0/104", "10.1.2.3:80", ""},
		{"allowed network behind NAT64", "10.0.0.0/8", "[64:ff9b::10.1.2.3]:80", ""},
		{"allowed address", "10.1.2.3", "10.1.2.3:8443", ""},
		{"neighbour of the allowed address", "10.1.2.3", "10.1.2.4:8443", "private"},
		{"allowed address and port", "127.0.0.1:8080", "127.0.0.1:8080", ""},
		{"same address, other port", "127.0.0.1:8080", "127.0.0.1:8081", "loopback"},
		{"allowed link-local in every zone", "fe80::/10", "[fe80::1%eth0]:80", ""},
		{"all allowed", "0.0.0.0/0 ::/0", "[::1]:80", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			policy, err := ParsePolicy(strings.Fields(tt.allow))
			if err != nil {
				t.Fatal(err)
			}
			checkRefusal(t, policy.check(netip.MustParseAddrPort(tt.peer)), tt.want)
		})
	}
}

func checkRefusal(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Errorf("refused: %v, want reached", err)
		}
		return
	}
	var refused *RefusedError
	if !errors.As(err, &refused) {
		t.Fatalf("error %v, want a RefusedError", err)
	}
	if !strings.Contains(refused.Reason, want) {
		t.Errorf("reason %q, want something with %q", refused.Reason, want)
	}
	if !strings.Contains(err.Error(), AllowKey) {
		t.Errorf("error %q does not name the key %s", err, AllowKey)
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	for _, entry := range []string{"", "localhost", "host:", "host:0", "host:65536", "host:http", ":80", "10.0.0.0/33", "http://host:80", "a/b:80", "*.internal:80", "user@host:80"} {
		if p, err := ParsePolicy([]string{"10.0.0.0/8", entry}); err == nil {
			t.Errorf("ParsePolicy(%q) = %+v, want an error", entry, p)
		} else if !strings.Contains(err.Error(), AllowKey) {
			t.Errorf("error %q does not name the key %s", err, AllowKey)
		}
	}
}

func TestAllowsHostPort(t *testing.T) {
	policy, err := ParsePolicy([]string{" Hooks.Internal.:8080 ", "[::1]:9000"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		address string
		want    bool
	}{
		{"hooks.internal:8080", true},
		{"HOOKS.internal.:8080", true},
		{"hooks.internal:8081", false},
		{"evil.hooks.internal:8080", false},
		{"[::1]:9000", true},
		{"[0:0:0:0:0:0:0:1]:9000", true},
		{"hooks.internal", false},
	}
	for _, tt := range tests {
		if got := policy.allowsHostPort(tt.address); got != tt.want {
			t.Errorf("allowsHostPort(%q) = %v, want %v", tt.address, got, tt.want)
		}
	}
}
