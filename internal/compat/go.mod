module github.com/midair-go/midair/internal/compat

go 1.26.0

require github.com/midair-go/midair v0.0.0

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
)

replace github.com/midair-go/midair => ../..
