package redisstore

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/midair-go/midair/session"
)

// The value of a record is magic, revision, expiry in milliseconds, data. The magic names the version of the format. Numbers are
// big endian. The key has the same expiry; with the expiry in the value too, Load needs a single command.
const (
	magic    = "mds1"
	tagBytes = len(magic) + 8 // what two writes of a record differ in
	headSize = tagBytes + 8
)

// maxID is the length in bytes from which on the key has the hash of the id instead of the id.
const maxID = 128

// After the prefix, a key has the plain id, or hashed and the hash of the id, or secretName for the secret.
const (
	hashed     = "#"
	secretName = hashed + "secret"
)

// newRevision returns 63 random bits. A counter could return a revision again after a failover has lost writes.
func newRevision() uint64 { return rand.Uint64() >> 1 }

// tag returns the first bytes of a value, magic and revision, which the scripts compare.
func tag(rev uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte(magic), rev)
}

// millis returns an expiry in milliseconds since 1970, at least 1: earlier expiries are in the past too.
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

// The results of a script.
const (
	missing = int64(0)
	done    = int64(1) // and 2 is a conflict
)

// Each script touches only the given key. If the record already has the new revision of a write, an earlier attempt has made
// the write, and the answer was lost.
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
