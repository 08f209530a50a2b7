// Package frameworks tries package canary with chi, gorilla/mux, gin and echo, each with its own middlewares. The package is in a
// module of its own, so that no framework comes into the module graph of a user.
package frameworks
