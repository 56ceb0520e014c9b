package depot

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"github.com/borgfleet/borgfleet/shared/borg"
)

// additions are the methods of borg's protocol that a client needs to make
// backups and to read them. What is missing: destroy, save_key (another
// passphrase), break_lock, inject_exception, and whatever a later borg adds.
var additions = []string{
	"negotiate", "open", "__len__", "list", "scan", "get", "put", "delete", "commit", "rollback",
	"load_key", "get_free_nonce", "commit_nonce_reservation", "check",
}

// refusal is what a client of a repository that one may only add to must not ask
// borg for.
type refusal struct{ what string }

func (r *refusal) Error() string {
	return r.what + " is refused: " + borg.DepotAddOnly
}

var errForeign = &refusal{what: "what is not borg's protocol"}

// Bounds of what a guard looks at; no borg comes near them.
const (
	maxDepth = 16
	maxWord  = 32
	maxNames = 32
)

// guard reads what a client asks borg serve for, on its way there, and ends with
// a refusal before borg has the last byte of what must not be asked for. Borg's
// --append-only is about ordinary clients: one that asks to create a repository
// where there is one, which fails, may destroy it after that.
//
// The protocol is a row of msgpack maps {i: number, m: method, a: {name: value}}.
// Before them there may be negotiate in the form of borg 1.0, a list of 4 of
// which the third is the method; nothing else passes. Data within is skipped
// without a copy.
type guard struct {
	to io.Writer

	head  [9]byte // of the value that is being read: its type, and what belongs to it
	have  int
	skip  uint64 // bytes of a string that are still to come
	word  []byte // what there is of a string that counts; nil: none is being read
	stack []level

	// of the message that is being read
	key     string // name of the value that comes next, in the map of depth 1 or 2
	method  string
	seen    []place
	refused string
}

// place is a name in a message, and how deep it is in there.
type place struct {
	depth int
	name  string
}

// level is a map or an array that is being read.
type level struct {
	left  uint64 // values that are still to come; a map's keys are values
	isMap bool
}

// Write implements io.Writer.
func (g *guard) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n, err := g.read(rest)
		if err != nil {
			return 0, err
		}
		rest = rest[n:]
	}
	return g.to.Write(p)
}

// read takes something off the beginning of p, and returns how much.
func (g *guard) read(p []byte) (int, error) {
	if g.skip > 0 {
		n := int(min(g.skip, uint64(len(p))))
		if g.word != nil {
			g.word = append(g.word, p[:n]...)
		}
		if g.skip -= uint64(n); g.skip == 0 {
			return n, g.value(g.word)
		}
		return n, nil
	}
	g.head[g.have] = p[0]
	g.have++
	size := headSize(g.head[0])
	if size < 0 {
		return 0, errForeign
	}
	if g.have < size {
		return 1, nil
	}
	head := g.head[:g.have]
	g.have = 0
	return 1, g.begin(head)
}

// headSize is how long a value's type is together with its length, or with the
// value when that is a number; -1: no client says such a thing.
func headSize(kind byte) int {
	switch {
	case kind <= 0xbf || kind >= 0xe0 || kind == 0xc0 || kind == 0xc2 || kind == 0xc3:
		return 1
	case kind >= 0xca && kind <= 0xd3: // numbers of 4, 8; 1, 2, 4, 8; 1, 2, 4, 8 bytes
		return 1 + []int{4, 8, 1, 2, 4, 8, 1, 2, 4, 8}[kind-0xca]
	case kind == 0xc4 || kind == 0xd9:
		return 2
	case kind == 0xc5 || kind == 0xda || kind == 0xdc || kind == 0xde:
		return 3
	case kind == 0xc6 || kind == 0xdb || kind == 0xdd || kind == 0xdf:
		return 5
	default:
		return -1
	}
}

// begin looks at a value whose head is complete.
func (g *guard) begin(head []byte) error {
	kind := head[0]
	switch {
	case kind >= 0x80 && kind <= 0x8f:
		return g.open(2*uint64(kind&0xf), true)
	case kind == 0xde || kind == 0xdf:
		return g.open(2*number(head[1:]), true)
	case kind >= 0x90 && kind <= 0x9f:
		return g.open(uint64(kind&0xf), false)
	case kind == 0xdc || kind == 0xdd:
		return g.open(number(head[1:]), false)
	case kind >= 0xa0 && kind <= 0xbf:
		return g.text(uint64(kind & 0x1f))
	case kind >= 0xc4 && kind <= 0xc6 || kind >= 0xd9 && kind <= 0xdb:
		return g.text(number(head[1:]))
	default:
		return g.value(head)
	}
}

// number reads what msgpack writes with its first byte first.
func number(b []byte) uint64 {
	var whole [8]byte
	copy(whole[8-len(b):], b)
	return binary.BigEndian.Uint64(whole[:])
}

func (g *guard) text(length uint64) error {
	g.word, g.skip = nil, length
	if length <= maxWord && len(g.stack) > 0 && len(g.stack) <= 2 {
		g.word = make([]byte, 0, length)
	}
	if length == 0 {
		return g.value(g.word)
	}
	return nil
}

// naming reports whether the next value is a map's key.
func (g *guard) naming() bool {
	top := g.stack[len(g.stack)-1]
	return top.isMap && top.left%2 == 0
}

// open begins a map or an array.
func (g *guard) open(values uint64, isMap bool) error {
	depth := len(g.stack)
	switch {
	case depth == maxDepth,
		depth == 0 && !isMap && values != 4,
		depth > 0 && g.naming(),
		depth == 1 && g.stack[0].isMap && (!isMap || g.key != "a"),
		depth == 1 && !g.stack[0].isMap && g.stack[0].left != 1:
		return errForeign
	}
	if depth == 2 && g.stack[1].isMap { // borg takes it for a truth, like any other value
		g.judge(nil)
	}
	g.stack = append(g.stack, level{left: values, isMap: isMap})
	return g.settle()
}

// value takes a value that is neither map nor array: the text, if it is a short
// one that may count, or what stands for it.
func (g *guard) value(said []byte) error {
	defer func() { g.word = nil }()
	if len(g.stack) == 0 {
		return errForeign
	}
	if len(g.stack) <= 2 {
		if g.naming() {
			if err := g.name(said); err != nil {
				return err
			}
		} else {
			g.judge(said)
		}
	}
	g.stack[len(g.stack)-1].left--
	return g.settle()
}

// name notes what the next value is. No name comes twice, as the last one would
// count for borg.
func (g *guard) name(said []byte) error {
	if g.word == nil { // a number, or too long
		return errForeign
	}
	g.key = string(said)
	here := place{depth: len(g.stack), name: g.key}
	if slices.Contains(g.seen, here) || len(g.seen) == maxNames {
		return errForeign
	}
	g.seen = append(g.seen, here)
	return nil
}

// judge notes what a value means, wherever it is in the message. Nothing stands
// for a map, an array, or a text that is too long.
func (g *guard) judge(said []byte) {
	const none, no, yes = "\xc0", "\xc2", "\xc3"
	switch plain := string(said); {
	case len(g.stack) == 1 && !g.stack[0].isMap:
		if g.stack[0].left == 2 {
			if g.method = plain; g.word == nil || plain != "negotiate" {
				g.refused = "a protocol that is too old"
			}
		}
	case len(g.stack) == 1 && g.key == "m":
		if g.method = plain; g.word == nil || !slices.Contains(additions, plain) {
			g.refused = "an unknown request"
			if g.word != nil {
				g.refused = fmt.Sprintf("%q", plain)
			}
		}
	case len(g.stack) == 2 && g.key == "create" && (g.word != nil || plain != no && plain != none):
		g.refused = "creating a repository"
	case len(g.stack) == 2 && g.key == "lock" && (g.word != nil || plain != yes):
		g.refused = "passing by the lock"
	case len(g.stack) == 2 && g.key == "repair" && (g.word != nil || plain != no && plain != none):
		g.refused = "a repair"
	}
}

// settle ends the maps and arrays that are complete, and the message with them.
func (g *guard) settle() error {
	for len(g.stack) > 0 && g.stack[len(g.stack)-1].left == 0 {
		g.stack = g.stack[:len(g.stack)-1]
		if len(g.stack) > 0 {
			g.stack[len(g.stack)-1].left--
		}
	}
	if len(g.stack) > 0 {
		return nil
	}
	method, refused := g.method, g.refused
	g.key, g.method, g.refused, g.seen = "", "", "", g.seen[:0]
	switch {
	case refused != "":
		return &refusal{what: refused}
	case method == "":
		return errForeign
	}
	return nil
}
