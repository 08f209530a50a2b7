package flags

import "log/slog"

// A warningLog logs warnings which are new. A warning counts as new again after it was gone.
type warningLog struct {
	log  *slog.Logger
	told map[Warning]bool // the warnings that were logged, without the lines
}

// update logs what is new among all present warnings.
func (l *warningLog) update(all []Warning) {
	const most = 10
	before, fresh := l.told, 0
	l.told = map[Warning]bool{}
	for _, w := range all {
		unplaced := Warning{Path: w.Path, Key: w.Key, Text: w.Text}
		if !before[unplaced] && !l.told[unplaced] {
			if fresh++; fresh <= most {
				l.log.Warn("flags: "+w.Text, slog.String("path", w.Path), slog.Int("line", w.Line), slog.String("key", w.Key))
			}
		}
		l.told[unplaced] = true
	}
	if fresh > most {
		l.log.Warn("flags: more warnings are in Status", "count", fresh-most)
	}
}
