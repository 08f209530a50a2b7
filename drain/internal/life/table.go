package life

// The table has a row for each state. An event that is missing in a row is impossible in this state.
//
// A few events may come after a Close, because another goroutine causes them: a Read gets bytes, a Move returns, net/http
// reports a state. A second Close closes the socket again, to return the error of the socket. A function of the user's in
// TLSNextProto may report Request and Rest in any order.
var table = [states][events]Step{
	Fresh: {
		Bytes: {Restore, Arriving}, Deadline: {Nothing, Fresh}, Part: {EndRead, Parted}, Take: {EndRead, Moved},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Arriving: { // Part may happen in the middle of a TLS handshake: below TLS, the end of the handshake cannot be seen
		Bytes: {Restore, Arriving}, Deadline: {Nothing, Arriving}, Part: {EndRead, Parted},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Active: { // Request may happen: net/http reports StateActive at the start of HTTP/2, and again for the first stream
		Bytes: {Restore, Active}, Deadline: {Nothing, Active},
		Request: {Restore, Active}, Rest: {Reset, Rested}, Hijack: {NoteHijack, Hijacked},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Rested: { // Bytes and Part may happen, since HTTP/2 reads without setting a deadline first
		Bytes: {Restore, Begun}, Deadline: {Nothing, Idle}, Part: {EndRead, Parted},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Idle: { // Find may happen: net/http may have read bytes of the next request together with the request before
		Bytes: {Restore, Begun}, Deadline: {Nothing, Reading}, Find: {Extend, Noted},
		Part: {EndRead, Parted}, Take: {EndRead, Moved},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Begun: {
		Bytes: {Restore, Begun}, Deadline: {Nothing, Reading}, Find: {Extend, Noted}, Part: {EndRead, Parted},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Noted: {
		Bytes: {Restore, Begun}, Deadline: {Nothing, Reading}, Find: {Nothing, Noted}, Part: {EndRead, Parted},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Reading: { // Part may happen to HTTP/2: several deadlines may be set although no stream begins
		Bytes: {Restore, Reading}, Deadline: {Nothing, Reading}, Part: {EndRead, Parted},
		Request: {Restore, Active}, Rest: {Reset, Rested},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Parted: { // Request may happen: net/http reports a part of a header as a request, and answers it with status 400
		Deadline: {Nothing, Parted},
		Request:  {Nothing, Parted}, Rest: {Nothing, Parted},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut}, Release: {Untrack, Ended},
	},
	Hijacked: { // Release may happen only to a connection without a wrapper: no event comes from its Close
		Bytes: {Restore, Hijacked}, Deadline: {Nothing, Hijacked},
		Close: {DropUntrack, Ended}, Linger: {Discard, Released}, Cut: {DropUntrack, Ended}, Release: {Untrack, Ended},
	},
	Raw: {
		Bytes: {Restore, Raw}, Deadline: {Nothing, Raw}, Part: {EndRead, Spent},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut},
	},
	Spent: { // Bytes may happen, since another goroutine of the handler may have been reading
		Bytes: {Restore, Spent}, Deadline: {Nothing, Spent},
		Close: {Drop, Shut}, Linger: {Discard, Lingering}, Cut: {Drop, Shut},
	},
	Moved: {
		Close: {Nothing, Moved}, Linger: {Nothing, Moved}, Cut: {Nothing, Moved}, Release: {Untrack, Moved},
	},
	Lingering: {
		Bytes: {Nothing, Lingering}, Take: {Nothing, Lingering},
		Request: {Nothing, Lingering}, Rest: {Nothing, Lingering}, Hijack: {NoteHijack, Released},
		Close: {Nothing, Lingering}, Linger: {Nothing, Lingering}, Lingered: {Nothing, Shut},
		Cut: {Drop, Lingering}, Release: {Nothing, Released},
	},
	Released: {
		Bytes: {Nothing, Released},
		Close: {Nothing, Released}, Linger: {Nothing, Released}, Lingered: {Untrack, Ended}, Cut: {Drop, Released},
	},
	Shut: {
		Bytes: {Nothing, Shut}, Take: {Nothing, Shut},
		Request: {Nothing, Shut}, Rest: {Nothing, Shut}, Hijack: {Untrack, Ended},
		Close: {Drop, Shut}, Linger: {Drop, Shut}, Cut: {Nothing, Shut}, Release: {Untrack, Ended},
	},
	Ended: { // Release may happen again, since the Close of a WebSocket may be called twice
		Bytes: {Nothing, Ended},
		Close: {Drop, Ended}, Linger: {Drop, Ended}, Cut: {Nothing, Ended}, Release: {Nothing, Ended},
	},
}
