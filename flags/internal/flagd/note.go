package flagd

import "fmt"

// A Note is a remark about a flag, or about the whole file if Key is empty.
type Note struct {
	Key  string // of the flag
	Line int    // the line of the file, from 1; 0 if not known
	Text string // the remark
}

// maxWarnings is how many warnings a document has.
const maxWarnings = 1000

// warnings collects notes.
type warnings struct {
	source source
	notes  []Note
	more   int // without room
}

// room reports whether another note is kept.
func (w *warnings) room() bool { return len(w.notes) < maxWarnings-1 }

func (w *warnings) add(key string, at int, format string, args ...any) {
	if !w.room() {
		w.more++
		return
	}
	w.notes = append(w.notes, Note{Key: key, Line: w.source.line(at), Text: fmt.Sprintf(format, args...)})
}

func (w *warnings) all() []Note {
	if w.more > 0 {
		return append(w.notes, Note{Text: fmt.Sprintf("there are %d more warnings", w.more)})
	}
	return w.notes
}
