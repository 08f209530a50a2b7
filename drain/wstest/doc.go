// Package wstest tries package drain with the WebSocket libraries that services use. It is a module of its own, so that no
// other module gets these libraries.
package wstest
