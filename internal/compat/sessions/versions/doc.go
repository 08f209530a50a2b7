// Package versions tries changes of the types in a session: an old and a new version of a program read and write one visitor's
// session in turn. No version gets an error but for a key whose value does not fit its type, and nothing of the other one is
// lost.
package versions
