module github.com/midair-go/midair/session/sqlstore

go 1.26.0

require github.com/midair-go/midair v0.0.0

replace github.com/midair-go/midair => ../..
