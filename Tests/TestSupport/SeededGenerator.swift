internal import Foundation

/// Random numbers that a seed repeats (SplitMix64): a failing random test runs again with the seed that it printed.
package struct SeededGenerator: RandomNumberGenerator, Sendable {
  package let seed: UInt64
  private var state: UInt64

  package init(seed: UInt64) {
    self.seed = seed
    state = seed
  }

  /// The environment variable that sets the seed.
  package static let variable = "CONSUL_BOOTSTRAP_TEST_SEED"

  /// Takes the seed from `CONSUL_BOOTSTRAP_TEST_SEED`, else a random one, and prints it with the test's name.
  package static func fromEnvironment(_ test: String = #function) -> SeededGenerator {
    let text = ProcessInfo.processInfo.environment[variable]
    guard let seed = text.map({ UInt64($0) }) ?? UInt64.random(in: .min ... .max) else {
      fatalError("\(variable) is not a number: \(text ?? "")")
    }
    print("\(test): \(variable)=\(seed)")
    return SeededGenerator(seed: seed)
  }

  package mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var mixed = state
    mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
    mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
    return mixed ^ (mixed >> 31)
  }
}
