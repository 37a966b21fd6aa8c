// SPDX-License-Identifier: Apache-2.0

package peer

import "time"

// Limits bound what callers can take. A zero field means its default. What is
// counted per user is eight times as much for root, behind which many services
// stand.
type Limits struct {
	// RequestBytes is the largest request.
	RequestBytes int
	// AnswerBytes is where an answer stops growing: lists give a page token,
	// batches fail the items that do not fit. Clients' own default limit is 4 MiB.
	AnswerBytes int
	// StreamsPerConnection is how many calls may be under way on one connection.
	StreamsPerConnection uint32
	// Connections is how many connections one socket may hold.
	Connections int

	// ConnectionsPerUID is how many connections one user may hold on one socket.
	ConnectionsPerUID int
	// CallsPerUID is how many calls one user may have under way on one socket.
	CallsPerUID int
	// StreamsPerUID is how many long streams (watches) one user may hold.
	StreamsPerUID int
	// UnreadBytesPerUID is how much of long answers may wait until it is read.
	UnreadBytesPerUID int

	// CallTimeout is the longest that an ordinary call may take, and the deadline
	// of one that brings none.
	CallTimeout time.Duration
	// TaskTimeout is the same for a join, a leave and a sync.
	TaskTimeout time.Duration
	// HandshakeTimeout ends a connection that does not begin to speak.
	HandshakeTimeout time.Duration
	// IdleTimeout ends a connection on which no call is under way; gRPC clients
	// connect again by themselves.
	IdleTimeout time.Duration
	// PingInterval and PingTimeout find peers that are stopped or stuck.
	PingInterval time.Duration
	PingTimeout  time.Duration
	// StallTimeout ends a watch whose reader has taken nothing for so long.
	StallTimeout time.Duration
	// Heartbeat is how long a watch is silent at most.
	Heartbeat time.Duration
}

// DefaultLimits returns the limits that hold where the configuration says nothing.
func DefaultLimits() Limits {
	return Limits{
		RequestBytes:         256 << 10,
		AnswerBytes:          3 << 20,
		StreamsPerConnection: 64,
		Connections:          2048,
		ConnectionsPerUID:    64,
		CallsPerUID:          256,
		StreamsPerUID:        32,
		UnreadBytesPerUID:    16 << 20,
		CallTimeout:          10 * time.Second,
		TaskTimeout:          30 * time.Minute,
		HandshakeTimeout:     5 * time.Second,
		IdleTimeout:          5 * time.Minute,
		PingInterval:         time.Minute,
		PingTimeout:          20 * time.Second,
		StallTimeout:         2 * time.Minute,
		Heartbeat:            30 * time.Second,
	}
}

// OrDefault fills the fields that are zero.
func (l Limits) OrDefault() Limits {
	d := DefaultLimits()
	fill(&l.RequestBytes, d.RequestBytes)
	fill(&l.AnswerBytes, d.AnswerBytes)
	fill(&l.StreamsPerConnection, d.StreamsPerConnection)
	fill(&l.Connections, d.Connections)
	fill(&l.ConnectionsPerUID, d.ConnectionsPerUID)
	fill(&l.CallsPerUID, d.CallsPerUID)
	fill(&l.StreamsPerUID, d.StreamsPerUID)
	fill(&l.UnreadBytesPerUID, d.UnreadBytesPerUID)
	fill(&l.CallTimeout, d.CallTimeout)
	fill(&l.TaskTimeout, d.TaskTimeout)
	fill(&l.HandshakeTimeout, d.HandshakeTimeout)
	fill(&l.IdleTimeout, d.IdleTimeout)
	fill(&l.PingInterval, d.PingInterval)
	fill(&l.PingTimeout, d.PingTimeout)
	fill(&l.StallTimeout, d.StallTimeout)
	fill(&l.Heartbeat, d.Heartbeat)
	return l
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
