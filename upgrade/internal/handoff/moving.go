package handoff

// moving is the Dispatcher as the cargo of its flow.
type moving Dispatcher

// load decides about an idle connection. If it cannot be sent at once, the decision holds until the end of the turn.
func (m *moving) load(o *offer) fate {
	d := (*Dispatcher)(m)
	d.mu.Lock()
	defer d.mu.Unlock()
	if o.loaded && o.turn == d.turn.number && d.state == passing {
		return goes
	}
	d.freeSlot(o.about.Slot)
	o.about.Slot, o.about.Unit, o.about.Weight, o.about.Turn = 0, "", 0, 0
	if !d.undecided(o.conn) || !d.decide(o.conn, &o.about, d.part, &d.idle) {
		return stays
	}
	if o.turn, o.about.Slot = d.turn.number, d.takeSlot(); o.about.Slot == 0 {
		return stays
	}
	d.counted(&d.idle, 1)
	return goes
}

// landed keeps the descriptor of a connection that was passed. If the connection was not passed, the next one takes its place.
func (m *moving) landed(o *offer, took bool) bool {
	d := (*Dispatcher)(m)
	d.mu.Lock()
	defer d.mu.Unlock()
	if !took && o.turn == d.turn.number {
		d.counted(&d.idle, -1)
	}
	if took && d.state < settled {
		d.passed[o.about.Slot] = passedConn{o.file, o.about}
		return true
	}
	if d.state < settled {
		d.freeSlot(o.about.Slot)
	}
	o.close()
	return took && d.state != reclaimed
}
