// swift-tools-version: 6.2
import PackageDescription

/// The house, floor by floor; CONTRIBUTING.md draws it and `Tests/HouseTests` reads the import lines against it.
/// No target depends on anything outside Debian's packages and Swift's toolchain.
let swiftSettings: [SwiftSetting] = [
  .swiftLanguageMode(.v6),
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("ExistentialAny"),
  .enableUpcomingFeature("InternalImportsByDefault"),
  .enableUpcomingFeature("MemberImportVisibility"),
  .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]

func target(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

func test(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .testTarget(name: name, dependencies: dependencies, swiftSettings: swiftSettings)
}

let package = Package(
  name: "consul-bootstrap",
  products: [.executable(name: "consul-bootstrap", targets: ["consul-bootstrap"])],
  targets: [
    .systemLibrary(name: "CCurl", providers: [.apt(["libcurl4-openssl-dev"])]),
    .systemLibrary(name: "COpenSSL", providers: [.apt(["libssl-dev"])]),
    .systemLibrary(name: "CDeflate", providers: [.apt(["libdeflate-dev"])]),
    .systemLibrary(name: "CExpat", providers: [.apt(["libexpat1-dev"])]),
    .systemLibrary(name: "CAres", providers: [.apt(["libc-ares-dev"])]),
    .target(name: "CSpawn"),
    target("Base", []),
    target("AWS", ["Base", "COpenSSL", "CExpat", "CDeflate"]),
    target("Consul", ["Base"]),
    target("Host", ["Base", "CAres", "CCurl", "CSpawn"]),
    target("Decisions", ["Base", "Consul"]),
    target("LogForwarding", ["Base", "AWS"]),
    target("Bootstrap", ["Base", "AWS", "Consul", "Decisions", "LogForwarding"]),
    target("Commands", ["Base", "AWS", "Consul", "Decisions", "LogForwarding", "Bootstrap", "Host"]),
    .executableTarget(name: "consul-bootstrap", dependencies: ["Commands"], swiftSettings: swiftSettings),
    .target(
      name: "TestSupport", dependencies: ["Base"], path: "Tests/TestSupport", swiftSettings: swiftSettings),
    test("BaseTests", ["Base", "TestSupport"]),
    test("DecisionsTests", ["Base", "Consul", "Decisions"]),
    test("LogForwardingTests", ["AWS", "Base", "LogForwarding", "Host"]),
    test("ConsulTests", ["Base", "Consul", "TestSupport"]),
    test("AWSTests", ["Base", "AWS", "TestSupport"]),
    test("HostTests", ["Base", "AWS", "Host"]),
    test("CommandsTests", ["AWS", "Base", "Bootstrap", "Commands", "Decisions"]),
    test("HouseTests", []),
  ]
)
