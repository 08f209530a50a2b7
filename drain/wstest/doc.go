// Package wstest tries package drain with the WebSocket libraries that services use. It is a module of its own, so that
// nobody else gets them.
package wstest
