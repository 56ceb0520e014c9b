package depot_test

import (
	"encoding/binary"
	"fmt"
	"os/exec"
	"slices"
	"strings"
)

// pack writes a value as borg's protocol does: texts, numbers, truth, nil, maps
// (with their names in order) and lists.
func pack(value any) []byte {
	switch v := value.(type) {
	case nil:
		return []byte{0xc0}
	case bool:
		if v {
			return []byte{0xc3}
		}
		return []byte{0xc2}
	case int:
		return binary.BigEndian.AppendUint32([]byte{0xce}, uint32(v))
	case string:
		return append(binary.BigEndian.AppendUint16([]byte{0xda}, uint16(len(v))), v...)
	case []any:
		packed := []byte{0x90 | byte(len(v))}
		for _, one := range v {
			packed = append(packed, pack(one)...)
		}
		return packed
	case map[string]any:
		packed := []byte{0x80 | byte(len(v))}
		var names []string
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			packed = append(append(packed, pack(name)...), pack(v[name])...)
		}
		return packed
	default:
		panic(fmt.Sprintf("pack %T", value))
	}
}

// call is a request of borg's protocol.
func call(method string, args map[string]any) []byte {
	return pack(map[string]any{"i": 1, "m": method, "a": args})
}

func open(path string, args map[string]any) []byte {
	all := map[string]any{"path": path}
	for name, value := range args {
		all[name] = value
	}
	return call("open", all)
}

// speak has a host speak borg's protocol by itself.
func (c *client) speak(repository string, calls ...[]byte) *exec.Cmd {
	cmd := c.ssh(repository, "borgfleet-depot", "borg serve")
	cmd.Stdin = strings.NewReader(string(slices.Concat(calls...)))
	return cmd
}

var negotiate = call("negotiate", map[string]any{"client_data": map[string]any{"client_version": []any{1, 2, 4, 0}}})
