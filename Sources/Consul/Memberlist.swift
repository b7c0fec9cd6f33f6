/// Datagrams of the gossip protocol (hashicorp/memberlist, `net.go`) that need neither membership nor a key.
package enum Memberlist {
  /// A ping for any node: message type 0, then MessagePack `{"SeqNo": 0, "Node": ""}`. A node acknowledges a ping that
  /// names no other node; with gossip encryption it ignores datagrams that are not encrypted with its key.
  package static let ping: [UInt8] =
    [0, 0x82, 0xA5] + Array("SeqNo".utf8) + [0x00, 0xA4] + Array("Node".utf8) + [0xA0]
}
