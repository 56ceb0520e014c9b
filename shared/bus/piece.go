package bus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/borgfleet/borgfleet/shared/job"
)

// What a job streams is read in pieces of one size, numbered from 0; the last
// one may be shorter. The coordinator asks for a few of them ahead, and the host
// keeps those it has answered with until they are asked for no more: so a lost
// answer is asked for again, memory is bounded on both sides, and borg waits for
// its reader.
const (
	PieceBytes  = 128 << 10
	PiecesAhead = 8 // asked for before the first of them is answered
	// PieceWait is how long a host keeps a request when borg has printed nothing
	// yet; then it says [PieceLater].
	PieceWait = 2 * time.Second
	// PieceTimeout is after how long the coordinator asks again: on a slow link
	// the pieces that are on their way are in front of it.
	PieceTimeout = 30 * time.Second
	// PieceIdle is after how long without a question the host takes the reader
	// for gone, and ends borg.
	PieceIdle = 90 * time.Second
)

// Read asks for one piece.
type Read struct {
	Job     job.ID `json:"job"`
	Attempt int    `json:"attempt"`
	Piece   int64  `json:"piece"` // 0, 1, …
}

// PieceState says what an answer is.
type PieceState byte

// States of a piece.
const (
	PieceMore  PieceState = 'm' // Data is whole; more may follow
	PieceLast  PieceState = 'l' // Data is all that is left, maybe nothing
	PieceLater PieceState = 'w' // nothing yet: ask again
	// PieceGone says that it will never come: the attempt is not known, does not
	// stream, is over, or the piece was dropped since it was read long ago.
	PieceGone PieceState = 'g'
)

// Piece is the answer.
type Piece struct {
	State PieceState
	Piece int64 // the number that was asked for
	Data  []byte
}

const pieceHeader = 9 // state, number

// Append appends the piece to buffer as it travels; it is never empty.
func (p Piece) Append(buffer []byte) []byte {
	buffer = append(buffer, byte(p.State))
	buffer = binary.BigEndian.AppendUint64(buffer, uint64(p.Piece))
	return append(buffer, p.Data...)
}

var errPiece = errors.New("malformed piece")

// DecodePiece is the reverse of [Piece.Append]. Data is a part of encoded.
func DecodePiece(encoded []byte) (Piece, error) {
	if len(encoded) < pieceHeader || len(encoded) > pieceHeader+PieceBytes {
		return Piece{}, fmt.Errorf("%w: %d bytes", errPiece, len(encoded))
	}
	p := Piece{State: PieceState(encoded[0]), Piece: int64(binary.BigEndian.Uint64(encoded[1:])), Data: encoded[pieceHeader:]}
	switch p.State {
	case PieceMore, PieceLast, PieceLater, PieceGone:
		return p, nil
	default:
		return Piece{}, fmt.Errorf("%w: state %q", errPiece, p.State)
	}
}
