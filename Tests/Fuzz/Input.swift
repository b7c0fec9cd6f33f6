/// The input that libFuzzer generated.
func input(_ data: UnsafePointer<UInt8>, _ count: Int) -> [UInt8] {
  Array(UnsafeBufferPointer(start: data, count: count))
}

func inputText(_ data: UnsafePointer<UInt8>, _ count: Int) -> String {
  String(decoding: input(data, count), as: UTF8.self)
}
