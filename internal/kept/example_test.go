package kept_test

import (
	"fmt"
	"time"

	"github.com/midair-go/midair/internal/kept"
)

// The state of a lamp: when the lamp was lit, and the colour.
func Example() {
	format := kept.Format{Name: "lamp", Magic: "midair-lamp\x00", Version: 1}

	b := kept.AppendTime(format.Begin(), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	b = kept.Append32(b, "green")
	state := format.Seal(b)

	r := format.Open(state)
	lit, colour := r.Time(), r.Bytes32()
	if err := r.Err(); err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s since %s\n", colour, lit.UTC().Format(time.TimeOnly))
	// Output: green since 03:04:05
}
