package follow_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/midair-go/midair/internal/follow"
)

// step is a change of a file, and the result of the look after the change: a new content, nothing new, or an error.
type step struct {
	change  func(t *testing.T, path string)
	content string
	failure string
}

func writes(content string) func(*testing.T, string) {
	return func(t *testing.T, path string) { write(t, path, content) }
}

func replaces(content string) func(*testing.T, string) {
	return func(t *testing.T, path string) { replace(t, path, content) }
}

func all(changes ...func(*testing.T, string)) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		for _, change := range changes {
			change(t, path)
		}
	}
}

func remove(t *testing.T, path string) { must(t, os.Remove(path)) }
func away(t *testing.T, path string)   { must(t, os.Rename(path, path+".away")) }
func back(t *testing.T, path string)   { must(t, os.Rename(path+".away", path)) }
func mkdir(t *testing.T, path string)  { must(t, os.Mkdir(path, 0o700)) }
func ages(t *testing.T, path string)   { date(t, path) }
func rests(*testing.T, string)         {}

// truncates sets the size of a file. The file has no blocks on the disk.
func truncates(size int64) func(*testing.T, string) {
	return func(t *testing.T, path string) { must(t, os.Truncate(path, size)) }
}

// release makes the directory of a release with a dated file, and lets the symbolic link name it. The path is that of the file
// below the link.
func release(name, content string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		link := filepath.Dir(path)
		dir := filepath.Join(filepath.Dir(link), name)
		mkdir(t, dir)
		file := filepath.Join(dir, filepath.Base(path))
		write(t, file, content)
		date(t, file)
		must(t, os.Symlink(name, link+"_tmp"), os.Rename(link+"_tmp", link))
	}
}

func drops(name string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		must(t, os.RemoveAll(filepath.Join(filepath.Dir(filepath.Dir(path)), name)))
	}
}

const missing, tooLarge, irregular = "there is no such file", "more than 1048576", "it is not a regular file"

// changes are the ways in which a file changes. Before the first step the file has the content "one" with the time old. Each
// change is seen by the first look after it, although the stamp before the change was believed.
var changes = map[string][]step{
	"nothing":                     {{rests, "", ""}},
	"in place":                    {{writes("second"), "second", ""}, {writes("3"), "3", ""}},
	"in place, same size":         {{writes("two"), "two", ""}},
	"in place, same size, time":   {{all(writes("two"), ages), "two", ""}, {all(writes("thr"), ages), "thr", ""}},
	"rename":                      {{replaces("second"), "second", ""}},
	"rename twice":                {{all(replaces("second"), replaces("third")), "third", ""}},
	"rename, same size, time":     {{all(replaces("two"), ages), "two", ""}, {all(replaces("thr"), ages), "thr", ""}},
	"rename, the same content":    {{all(replaces("one"), ages), "", ""}},
	"a new time only":             {{ages, "", ""}},
	"away, then another":          {{all(away, writes("second")), "second", ""}},
	"away, then same size, time":  {{all(away, writes("two"), ages), "two", ""}},
	"away, later another":         {{away, "", missing}, {writes("second"), "second", ""}},
	"away and back":               {{all(away, back), "", ""}},
	"away, later back":            {{away, "", missing}, {back, "one", ""}},
	"removed, then another":       {{all(remove, writes("two"), ages), "two", ""}},
	"truncated":                   {{truncates(2), "on", ""}, {truncates(2), "", ""}},
	"longer by nothing":           {{truncates(5), "one\x00\x00", ""}},
	"removed":                     {{remove, "", missing}, {rests, "", missing}, {writes("one"), "one", ""}},
	"a directory":                 {{all(remove, mkdir), "", irregular}, {all(remove, writes("two")), "two", ""}},
	"100 MB":                      {{truncates(100 << 20), "", tooLarge}, {writes("two"), "two", ""}},
	"half written, then the rest": {{writes(`{"a`), `{"a`, ""}, {writes(`{"a": 1}`), `{"a": 1}`, ""}},
}

// needCtime are the changes that only the ctime shows.
var needCtime = map[string]bool{"in place, same size, time": true}

// linked are changes of the symbolic link "current" to the directory with the file, as in releases on a host, and of the link
// "..data" in a volume of Kubernetes.
var linked = map[string][]step{
	"swap, the old one stays":       {{release("2", "second"), "second", ""}, {drops("1"), "", ""}},
	"swap, the old one is deleted":  {{all(release("2", "second"), drops("1")), "second", ""}},
	"swap, same size, time":         {{release("2", "two"), "two", ""}, {all(release("3", "thr"), drops("2")), "thr", ""}},
	"swap to the same content":      {{release("2", "one"), "", ""}},
	"swap to a directory of before": {{release("2", "two"), "two", ""}, {relink("1"), "one", ""}},
	"swap before the directory":     {{all(drops("1"), rests), "", missing}, {release("2", "one"), "one", ""}},
	"to itself":                     {{relink("current"), "", "current"}, {relink("1"), "one", ""}},
	"the directory is renamed":      {{moves("1", "9"), "", missing}, {relink("9"), "one", ""}},
}

func relink(name string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		link := filepath.Dir(path)
		must(t, os.Symlink(name, link+"_tmp"), os.Rename(link+"_tmp", link))
	}
}

func moves(from, to string) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		root := filepath.Dir(filepath.Dir(path))
		must(t, os.Rename(filepath.Join(root, from), filepath.Join(root, to)))
	}
}

func (s step) take(t *testing.T, f *follow.File) {
	t.Helper()
	s.change(t, f.Path)
	if s.failure != "" {
		fails(t, f, s.failure)
		return
	}
	sees(t, f, s.content)
}

// The first look after a change sees it, in whatever way the file was changed, and whatever its size and its time are.
func TestEachChangeIsSeenByTheNextLook(t *testing.T) {
	for name, steps := range changes {
		t.Run(name, func(t *testing.T) {
			if needCtime[name] && runtime.GOOS == "windows" {
				t.Skip("files have no ctime here: the content is read 10 s later")
			}
			settled(t, "one", func(t *testing.T, f *follow.File) {
				date(t, f.Path)
				sees(t, f, "")
				settle(t, f)
				for i, s := range steps {
					s.take(t, f)
					if s.failure == "" && i < len(steps)-1 {
						settle(t, f)
					}
				}
			})
		})
	}
}

// A look follows symbolic links, whichever part of the path is a link.
func TestLinksAreFollowed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("links need a privilege here")
	}
	for name, steps := range linked {
		t.Run(name, func(t *testing.T) {
			settled(t, "unused", func(t *testing.T, _ *follow.File) {
				f := &follow.File{Path: filepath.Join(t.TempDir(), "current", "file")}
				release("1", "one")(t, f.Path)
				sees(t, f, "one")
				for _, s := range steps {
					if f.SameStamp() {
						settle(t, f)
					}
					s.take(t, f)
				}
			})
		})
	}
}

// A file that is missing at the start is an error at each look until it is there.
func TestFileMayComeLater(t *testing.T) {
	f := &follow.File{Path: filepath.Join(t.TempDir(), "later", "file")}
	if err := fails(t, f, missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%#v", err)
	}
	fails(t, f, missing)
	mkdir(t, filepath.Dir(f.Path))
	write(t, f.Path, "one")
	sees(t, f, "one")
	sees(t, f, "")
}

// Errors name what is wrong and what to do, and keep their causes.
func TestErrorsNameTheCause(t *testing.T) {
	f := follows(t, "one")
	below := &follow.File{Path: filepath.Join(f.Path, "below")}
	_, _, err := below.Look(false)
	if err == nil || runtime.GOOS != "windows" && !strings.HasSuffix(err.Error(), "below: not a directory") {
		t.Errorf("below a file: %v", err)
	}
	small := &follow.File{Path: f.Path, MaxSize: 2}
	fails(t, small, "it has 3 bytes, more than 2")
}
