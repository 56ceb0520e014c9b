package bus_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/borgfleet/borgfleet/shared/bus"
)

func TestPiecesTravel(t *testing.T) {
	for _, p := range []bus.Piece{
		{State: bus.PieceMore, Piece: 1 << 40, Data: bytes.Repeat([]byte{0}, bus.PieceBytes)},
		{State: bus.PieceLast, Piece: 1, Data: []byte("end")},
		{State: bus.PieceLast, Piece: 2, Data: []byte{}},
		{State: bus.PieceLater, Data: []byte{}},
		{State: bus.PieceGone, Piece: 7, Data: []byte{}},
	} {
		got, err := bus.DecodePiece(p.Append(nil))
		if diff := cmp.Diff(p, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	}
	for name, encoded := range map[string][]byte{
		"nothing": nil, "short": []byte("m1234567"), "no such state": []byte("x12345678"),
		"too long": append([]byte("m12345678"), make([]byte, bus.PieceBytes+1)...),
	} {
		if p, err := bus.DecodePiece(encoded); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
}
