// Package echopb is generated from echo.proto.
package echopb
