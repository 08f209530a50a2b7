module github.com/midair-go/midair/drain/wstest

go 1.26.0

require (
	github.com/coder/websocket v1.8.14
	github.com/gorilla/websocket v1.5.3
	github.com/midair-go/midair v0.0.0
)

require golang.org/x/sys v0.48.0 // indirect

replace github.com/midair-go/midair => ../..
