package fleet_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/fleet"
)

func TestParseSSHAddress(t *testing.T) {
	for text, want := range map[string]string{
		"root@web1":                "root@web1:22",
		"root@web1:2222":           "root@web1:2222",
		"me@corp@web1.example.net": "me@corp@web1.example.net:22",
		"me@10.0.0.7:22":           "me@10.0.0.7:22",
		"me@fe80::1":               "me@[fe80::1]:22",
		"me@[fe80::1]":             "me@[fe80::1]:22",
		"me@[fe80::1]:2222":        "me@[fe80::1]:2222",
		"web1":                     "",
		"@web1":                    "",
		"me@":                      "",
		"me@web1:":                 "",
		"me@web1:0":                "",
		"me@web1:022":              "",
		"me@web1:65536":            "",
		"me@web1:ssh":              "",
		"-oProxyCommand=x@web1":    "",
		"me@-oProxyCommand=x":      "",
		"me@web1 -p 1":             "",
		"me@web1\nroot@web2":       "",
		"me:password@web1":         "",
		"ssh://me@web1":            "",
		"me@web1/etc":              "",
		"$(id)@web1":               "",
	} {
		t.Run(text, func(t *testing.T) {
			address, err := fleet.ParseSSHAddress("address", text)
			if (err == nil) != (want != "") || err == nil && address.String() != want {
				t.Errorf("%q, %v; want %q", address, err, want)
			}
		})
	}
}
