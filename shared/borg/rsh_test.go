package borg_test

import (
	"testing"

	"github.com/borgfleet/borgfleet/shared/borg"
)

func TestIdentityRSH(t *testing.T) {
	for name, test := range map[string]struct {
		files []string
		want  string
	}{
		"none": {nil, borg.DefaultRSH},
		"two":  {[]string{"/a/id", "/b/id"}, borg.DefaultRSH + ` '-oIdentityFile="/a/id"' '-oIdentityFile="/b/id"'`},
		"odd":  {[]string{"/it's 100%/id"}, borg.DefaultRSH + ` '-oIdentityFile="/it'\''s 100%%/id"'`},
	} {
		t.Run(name, func(t *testing.T) {
			if got := borg.IdentityRSH(test.files); got != test.want {
				t.Errorf("%s\nwant %s", got, test.want)
			}
		})
	}
}
