package redisstore

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/midair-go/midair/session"
)

// The value of a record: a magic that names the version, revision, expiry in milliseconds, data. Numbers are big endian. The
// expiry is that of the key too; a Load reads both with one command.
const (
	magic    = "mds1"
	tagBytes = len(magic) + 8 // what two writes of a record differ in
	headSize = tagBytes + 8
)

// maxID is the length of an id, in bytes, from which on the key has its hash.
const maxID = 128

// hashed begins the rest of a key after the prefix if the key is not that of a plain id, and secretName is that rest for the
// secret.
const (
	hashed     = "#"
	secretName = hashed + "secret"
)

// newRevision is random and has 63 bits, so that it differs from all that a failover may have lost.
func newRevision() uint64 { return rand.Uint64() >> 1 }

// tag is the part of a value by which the scripts recognise it.
func tag(rev uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(magic), rev)
}

// millis is an expiry as the server wants it. It takes no negative one.
func millis(expires time.Time) int64 { return max(expires.UnixMilli(), 1) }

func encode(rev uint64, expires time.Time, data []byte) []byte {
	b := make([]byte, 0, headSize+len(data))
	b = append(b, magic...)
	b = binary.BigEndian.AppendUint64(b, rev)
	b = binary.BigEndian.AppendUint64(b, uint64(millis(expires)))
	return append(b, data...)
}

var errForeign = errors.New("the key holds no session")

func decode(b []byte) (session.Record, error) {
	if len(b) < headSize || string(b[:len(magic)]) != magic {
		return session.Record{}, errForeign
	}
	return session.Record{
		Data:    b[headSize:],
		Rev:     binary.BigEndian.Uint64(b[len(magic):]),
		Expires: time.UnixMilli(int64(binary.BigEndian.Uint64(b[tagBytes:]))),
	}, nil
}

// What a script returns.
const (
	missing = int64(0)
	done    = int64(1) // and 2 is a conflict
)

// The scripts touch the key that they are given, and no other. A write that finds its own revision was made by an earlier
// attempt, whose answer was lost.
var (
	createScript = newLua(`
local tag = redis.call('GETRANGE', KEYS[1], 0, 11)
if tag == string.sub(ARGV[1], 1, 12) then return 1 end
if tag ~= '' then return 2 end
redis.call('SET', KEYS[1], ARGV[1])
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 1`)

	swapScript = newLua(`
local tag = redis.call('GETRANGE', KEYS[1], 0, 11)
if tag == ARGV[3] then
	redis.call('SET', KEYS[1], ARGV[1])
	redis.call('PEXPIREAT', KEYS[1], ARGV[2])
	return 1
end
if tag == string.sub(ARGV[1], 1, 12) then return 1 end
if tag == '' then return 0 end
return 2`)

	touchScript = newLua(`
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('SETRANGE', KEYS[1], 12, ARGV[1])
redis.call('PEXPIREAT', KEYS[1], ARGV[2])
return 1`)
)
