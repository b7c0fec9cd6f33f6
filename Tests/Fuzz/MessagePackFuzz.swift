@testable import Consul

/// Bytes of whatever listens on raft's port: every value ends, and one that is decoded survives its own encoding.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzz(_ data: UnsafePointer<UInt8>, _ count: Int) -> CInt {
  var rest = input(data, count)[...]
  while !rest.isEmpty {
    do throws(MessagePackError) {
      let value = try MessagePackValue(decoding: &rest)
      var encoded = value.encoded[...]
      let again = try MessagePackValue(decoding: &encoded)
      // NaN differs from itself: the bytes are compared.
      if again.encoded != value.encoded || !encoded.isEmpty { fatalError("decoded otherwise") }
    } catch {
      return 0
    }
  }
  return 0
}
