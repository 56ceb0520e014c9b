package depot_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/borgfleet/borgfleet/coordinator/internal/depot"
)

func TestGuard(t *testing.T) {
	t.Parallel()
	put := call("put", map[string]any{"id": strings.Repeat("i", 32), "data": strings.Repeat("\xc3\x81m", 20000), "wait": false})
	for name, test := range map[string]struct {
		calls   [][]byte
		refused string // part of why; empty: all passes
	}{
		"a backup": {calls: [][]byte{
			negotiate, open("/./r", map[string]any{"create": false, "lock_wait": 1, "lock": true, "exclusive": true, "append_only": false}),
			call("load_key", nil), call("get_free_nonce", nil), put, call("delete", map[string]any{"id": "x"}),
			call("commit", map[string]any{"compact": false}), call("__len__", nil),
		}},
		"a check":                    {calls: [][]byte{call("check", map[string]any{"repair": false, "save_space": false})}},
		"create is nil":              {calls: [][]byte{open("r", map[string]any{"create": nil})}},
		"create":                     {calls: [][]byte{open("r", map[string]any{"create": true})}, refused: "creating a repository"},
		"create by a number":         {calls: [][]byte{open("r", map[string]any{"create": 1})}, refused: "creating a repository"},
		"create by a text":           {calls: [][]byte{open("r", map[string]any{"create": "\xc2"})}, refused: "creating a repository"},
		"create by a long text":      {calls: [][]byte{open("r", map[string]any{"create": strings.Repeat("x", 100)})}, refused: "creating a repository"},
		"create by a list":           {calls: [][]byte{open("r", map[string]any{"create": []any{1}})}, refused: "creating a repository"},
		"create by a map":            {calls: [][]byte{open("r", map[string]any{"create": map[string]any{"x": 1}})}, refused: "creating a repository"},
		"create by an empty list":    {calls: [][]byte{open("r", map[string]any{"create": []any{}})}, refused: "creating a repository"},
		"repair by a list":           {calls: [][]byte{call("check", map[string]any{"repair": []any{[]any{}}})}, refused: "repair"},
		"without lock by a list":     {calls: [][]byte{open("r", map[string]any{"lock": []any{}})}, refused: "lock"},
		"without lock by a map":      {calls: [][]byte{open("r", map[string]any{"lock": map[string]any{}})}, refused: "lock"},
		"without lock, after others": {calls: [][]byte{open("r", map[string]any{"create": false, "zlist": []any{1}}), open("r", map[string]any{"a": []any{1}, "lock": []any{}})}, refused: "lock"},
		"without lock":               {calls: [][]byte{open("r", map[string]any{"lock": false})}, refused: "lock"},
		"destroy":                    {calls: [][]byte{call("destroy", nil)}, refused: `"destroy"`},
		"after others":               {calls: [][]byte{negotiate, put, call("save_key", map[string]any{"keydata": "x"})}, refused: `"save_key"`},
		"break_lock":                 {calls: [][]byte{call("break_lock", nil)}, refused: `"break_lock"`},
		"repair":                     {calls: [][]byte{call("check", map[string]any{"repair": true})}, refused: "repair"},
		"unknown":                    {calls: [][]byte{call("quantum", nil)}, refused: `"quantum"`},
		"a long method":              {calls: [][]byte{call(strings.Repeat("x", 100), nil)}, refused: "unknown request"},
		"no method":                  {calls: [][]byte{pack(map[string]any{"i": 1})}, refused: "borg's protocol"},
		"a method that is a number":  {calls: [][]byte{pack(map[string]any{"m": 1})}, refused: "unknown request"},
		"the protocol of borg 1.0":   {calls: [][]byte{pack([]any{1, 1, "open", []any{"r", true}})}, refused: "too old"},
		"negotiate as borg 1.0":      {calls: [][]byte{pack([]any{1, 1, "negotiate", []any{map[string]any{"client_version": []any{1, 2, 4, 0}}}})}},
		"a list of three":            {calls: [][]byte{pack([]any{1, 1, "negotiate"})}, refused: "borg's protocol"},
		"a list with a list in it":   {calls: [][]byte{pack([]any{1, 1, []any{"negotiate"}, 1})}, refused: "borg's protocol"},
		"a list without a method":    {calls: [][]byte{pack([]any{1, 1, 1, []any{}})}, refused: "too old"},
		"two methods":                {calls: [][]byte{slices.Concat([]byte{0x82}, pack("m"), pack("get"), pack("m"), pack("destroy"))}, refused: "borg's protocol"},
		"two methods the other way":  {calls: [][]byte{slices.Concat([]byte{0x82}, pack("m"), pack("destroy"), pack("m"), pack("get"))}, refused: "borg's protocol"},
		"a list of arguments":        {calls: [][]byte{pack(map[string]any{"m": "open", "a": []any{"r", true}})}, refused: "borg's protocol"},
		"a map elsewhere":            {calls: [][]byte{pack(map[string]any{"m": "open", "b": map[string]any{}})}, refused: "borg's protocol"},
		"a map as a name":            {calls: [][]byte{{0x81, 0x80, 0x01}}, refused: "borg's protocol"},
		"a number as a name":         {calls: [][]byte{{0x81, 0x01, 0x01}}, refused: "borg's protocol"},
		"a long name":                {calls: [][]byte{pack(map[string]any{strings.Repeat("x", 40): 1})}, refused: "borg's protocol"},
		"many names":                 {calls: [][]byte{call("get", manyNames(15)), pack(map[string]any{"m": "get", "a": manyNames(15), "i": 1})}},
		"an extension":               {calls: [][]byte{{0x81, 0xc7, 0x01, 0x01, 0x01}}, refused: "borg's protocol"},
		"a text":                     {calls: [][]byte{pack("destroy")}, refused: "borg's protocol"},
		"nothing":                    {calls: [][]byte{{0x80}}, refused: "borg's protocol"},
		"too deep":                   {calls: [][]byte{slices.Concat([]byte{0x81}, pack("a"), []byte{0x81}, pack("x"), bytes.Repeat([]byte{0x91}, 20))}, refused: "borg's protocol"},
		"the method after arguments": {calls: [][]byte{slices.Concat([]byte{0x82}, pack("a"), []byte{0x81}, pack("create"), pack(true), pack("m"), pack("open"))}, refused: "creating"},
	} {
		t.Run(name, func(t *testing.T) {
			all := slices.Concat(test.calls...)
			for _, size := range []int{1, 7, 4096, len(all)} {
				var got bytes.Buffer
				guard := depot.NewGuard(&got)
				var err error
				for piece := range slices.Chunk(all, size) {
					if _, err = guard.Write(piece); err != nil {
						break
					}
				}
				switch {
				case test.refused == "" && (err != nil || !bytes.Equal(got.Bytes(), all)):
					t.Errorf("in pieces of %d: %v, %d of %d bytes passed", size, err, got.Len(), len(all))
				case test.refused != "" && (err == nil || !strings.Contains(err.Error(), test.refused)):
					t.Errorf("in pieces of %d: not refused: %v", size, err)
				case test.refused != "" && got.Len() >= len(all):
					t.Errorf("in pieces of %d: refused, and yet all of it passed", size)
				}
			}
		})
	}
}

func manyNames(n int) map[string]any {
	names := map[string]any{}
	for i := range n {
		names[strings.Repeat("n", i+1)] = i
	}
	return names
}

// FuzzGuard says that a guard neither breaks nor lets through anything else than
// it was given.
func FuzzGuard(f *testing.F) {
	f.Add(negotiate)
	f.Add(open("r", map[string]any{"create": true}))
	f.Add(call("put", map[string]any{"data": "x"}))
	f.Fuzz(func(t *testing.T, said []byte) {
		var whole, single bytes.Buffer
		_, err := depot.NewGuard(&whole).Write(said)
		guard := depot.NewGuard(&single)
		var failed error
		for i := range said {
			if _, failed = guard.Write(said[i : i+1]); failed != nil {
				break
			}
		}
		if (err == nil) != (failed == nil) {
			t.Errorf("whole %v, in single bytes %v", err, failed)
		}
		if err == nil && !bytes.Equal(whole.Bytes(), said) || !bytes.HasPrefix(said, single.Bytes()) {
			t.Error("something else passed")
		}
	})
}
