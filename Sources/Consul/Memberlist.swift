/// The gossip protocol's datagrams (hashicorp/memberlist, `net.go`), as far as a stranger may speak it.
package enum Memberlist {
  /// A ping for whoever is there: message type 0, then MessagePack `{"SeqNo": 0, "Node": ""}`. A node answers one that names
  /// nobody else with an ack; where gossip is encrypted it answers nobody who has no key.
  package static let ping: [UInt8] =
    [0, 0x82, 0xA5] + Array("SeqNo".utf8) + [0x00, 0xA4] + Array("Node".utf8) + [0xA0]
}
