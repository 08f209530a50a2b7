package broadcast

import (
	"slices"
	"time"
)

// recent has the last messages of this generation, the oldest first.
type recent struct {
	all   []*message
	bytes int
}

// keptEach is how many messages of a name are kept for a generation that is being started.
const keptEach = 16

// add adds a message. The oldest message of the name is dropped if there are more than keptEach, and the oldest messages of all
// names if there are more than queueMost, or more than queueBytes of data.
func (r *recent) add(m *message) {
	same, first := 0, -1
	for i, old := range r.all {
		if old.name == m.name {
			if same++; first < 0 {
				first = i
			}
		}
	}
	if same >= keptEach {
		r.drop(first)
	}
	r.all, r.bytes = append(r.all, m), r.bytes+len(m.data)
	for len(r.all) > queueMost || r.bytes > queueBytes {
		r.drop(0)
	}
}

func (r *recent) drop(i int) {
	r.bytes -= len(r.all[i].data)
	r.all = slices.Delete(r.all, i, i+1)
}

// since returns the messages that were sent at a time or later, by sys.Uptime.
func (r *recent) since(at time.Duration) []*message {
	return slices.DeleteFunc(slices.Clone(r.all), func(m *message) bool { return m.at < at })
}
