package cli

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/borgfleet/borgfleet/shared/console"
)

// terminalWidth returns how wide the terminal behind a stream is, if it is one.
func terminalWidth(stream any) (width int, ok bool) {
	file, ok := stream.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return 0, false
	}
	width, _, err := term.GetSize(int(file.Fd()))
	if err != nil || width < 20 {
		width = 80
	}
	return width, true
}

// fit shortens text to width columns, from its end.
func fit(text string, width int) string {
	if columnsIn(text) <= width {
		return text
	}
	runes := []rune(text)
	for columns := columnsIn(text); columns >= width && len(runes) > 0; runes = runes[:len(runes)-1] {
		columns -= columnsOf(runes[len(runes)-1])
	}
	return strings.TrimRight(string(runes), " ") + "…"
}

// fitEnd shortens text to width columns, from its beginning.
func fitEnd(text string, width int) string {
	if columnsIn(text) <= width {
		return text
	}
	runes := []rune(text)
	for columns := columnsIn(text); columns >= width && len(runes) > 0; runes = runes[1:] {
		columns -= columnsOf(runes[0])
	}
	return "…" + string(runes)
}

func columnsIn(text string) (columns int) {
	for _, r := range text {
		columns += columnsOf(r)
	}
	return columns
}

// columnsOf counts characters far from ASCII double, since some are that wide.
func columnsOf(r rune) int {
	if r < 0x250 || r == '…' || r == '–' {
		return 1
	}
	return 2
}

// frames of the spinner.
const frames = `|/-\`

// frameTime is how long each of them stays.
const frameTime = 120 * time.Millisecond

// liveLine is the last line of a terminal, written again and again: a bar when
// there is a percentage, else a spinner, and words. Other lines go above it.
type liveLine struct {
	out   io.Writer
	width func() int
	quit  chan struct{}
	ended chan struct{}

	mu      sync.Mutex
	percent *float64
	words   func() string // asked at every frame
	tail    string        // shown in what room is left; its end counts
	frame   int
}

// newLiveLine starts a line that moves by itself until close.
func newLiveLine(out io.Writer, width func() int) *liveLine {
	l := &liveLine{out: out, width: width, quit: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

func (l *liveLine) run() {
	defer close(l.ended)
	ticker := time.NewTicker(frameTime)
	defer ticker.Stop()
	for {
		select {
		case <-l.quit:
			return
		case <-ticker.C:
			l.mu.Lock()
			l.frame++
			l.draw()
			l.mu.Unlock()
		}
	}
}

// set changes what the line says.
func (l *liveLine) set(percent *float64, words func() string, tail string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.percent, l.words, l.tail = percent, words, tail
	l.draw()
}

// above writes a line that stays, above the moving one.
func (l *liveLine) above(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	fmt.Fprintf(l.out, "\r\x1b[K%s\n", text)
	l.draw()
}

// close stops the line and leaves nothing of it behind.
func (l *liveLine) close() {
	close(l.quit)
	<-l.ended
	_, _ = io.WriteString(l.out, "\r\x1b[K")
}

func (l *liveLine) draw() {
	if l.words != nil {
		fmt.Fprintf(l.out, "\r\x1b[K%s", l.render())
	}
}

// render makes the line, one column narrower than the terminal, so that the
// cursor stays on it.
func (l *liveLine) render() string {
	width := l.width() - 1
	line := string(frames[l.frame%len(frames)]) + " "
	if l.percent != nil {
		line = drawBar(*l.percent, min(max(width/5, 10), 30)) + " "
	}
	line = fit(line+console.Printable(l.words()), width)
	if room := width - columnsIn(line) - 2; l.tail != "" && room >= 16 {
		line += "  " + fitEnd(console.Printable(l.tail), room)
	}
	return line
}

// drawBar is a bar with so many cells.
func drawBar(percent float64, cells int) string {
	filled := int(min(max(percent, 0), 100) / 100 * float64(cells))
	return "[" + strings.Repeat("#", filled) + strings.Repeat("-", cells-filled) + "]"
}
