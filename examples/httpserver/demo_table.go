package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

// screen writes for people, with colours where there is a terminal.
type screen struct {
	w      io.Writer
	colour bool
}

func newScreen(f *os.File) screen {
	info, err := f.Stat()
	terminal := err == nil && info.Mode()&os.ModeCharDevice != 0
	return screen{w: f, colour: terminal && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

// The colours, as parameters of the escape sequence.
const (
	bold  = "1"
	green = "1;32"
	red   = "1;31"
	soft  = "2"
)

func (s screen) paint(colour, text string) string {
	if !s.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// textWidth is the rest of 80 columns behind the label of say.
const labelWidth, textWidth = 10, 70

// say writes a line behind a label, folded where a terminal would break the line.
func (s screen) say(label, text string) {
	for _, line := range fold(text, textWidth) {
		fmt.Fprintf(s.w, "%s%s\n", s.paint(bold, pad(label, labelWidth)), line)
		label = ""
	}
}

func (s screen) title(text string) { fmt.Fprintf(s.w, "\n%s\n\n", s.paint(bold, text)) }
func (s screen) good(text string)  { fmt.Fprintf(s.w, "\n%s\n", s.paint(green, text)) }
func (s screen) bad(text string)   { fmt.Fprintf(s.w, "\n%s\n", s.paint(red, text)) }

func pad(s string, width int) string { return fmt.Sprintf("%-*s", width, s) }

// fold breaks text between words.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

// columns is the format of all lines of the table.
const columns = "%-24s%7s %9s %8s %8s %5s %5s %7s\n"

// table prints the counts of the requests, phase by phase, and returns the sum.
func table(s screen, phases []*phase) phase {
	total := phase{name: "total", answered: map[string]int{}}
	head := fmt.Sprintf(columns, "phase", "time", "requests", "by v1", "by v2", "bad", "lost", "slowest")
	fmt.Fprintf(s.w, "\n%s\n", s.paint(bold, strings.TrimSpace(head)))
	for _, p := range phases {
		fmt.Fprint(s.w, p.row())
		total.add(p)
	}
	fmt.Fprintln(s.w, s.paint(soft, strings.Repeat("-", 79)))
	fmt.Fprint(s.w, s.paint(bold, total.row()))
	return total
}

func (p *phase) add(q *phase) {
	p.took += q.took
	p.sent += q.sent
	p.lost += q.lost
	p.slowest = max(p.slowest, q.slowest)
	for v, n := range q.answered {
		p.answered[v] += n
	}
}

func (p *phase) row() string {
	v1, v2, all := p.answered["v1"], p.answered["v2"], 0
	for _, n := range p.answered {
		all += n
	}
	return fmt.Sprintf(columns, p.name, short(p.took), thousands(p.sent), thousands(v1), thousands(v2),
		thousands(all-v1-v2), thousands(p.lost), fmt.Sprintf("%d ms", p.slowest.Milliseconds()))
}

// short writes a time with as many digits as people look at.
func short(d time.Duration) string {
	if d < time.Second {
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// thousands writes a number with a comma between the thousands.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
