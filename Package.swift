// swift-tools-version: 6.2
import PackageDescription

/// The targets, from the bottom; CONTRIBUTING.md lists what each may import, and `Tests/HouseTests` holds it.
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

/// A target without hot loops: in a release its size matters more than its speed.
func smallTarget(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  let small = SwiftSetting.unsafeFlags(["-Osize"], .when(configuration: .release))
  return .target(name: name, dependencies: dependencies, swiftSettings: swiftSettings + [small])
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
    smallTarget("Consul", ["Base"]),
    target("Host", ["Base", "CAres", "CCurl", "COpenSSL", "CSpawn"]),
    smallTarget("Model", ["Base", "AWS", "Consul"]),
    smallTarget("Artifacts", ["Base", "AWS", "Consul", "Model"]),
    smallTarget("Decisions", ["Base", "Consul", "Model", "Artifacts"]),
    smallTarget("Observers", ["Base", "AWS", "Consul", "Model", "Artifacts", "Decisions"]),
    smallTarget("Execution", ["Base", "AWS", "Consul", "Model"]),
    target("LogForwarding", ["Base", "AWS"]),
    smallTarget(
      "Sidecar",
      ["Base", "AWS", "Consul", "Model", "Artifacts", "Decisions", "Observers", "Execution", "LogForwarding"]),
    smallTarget("Doctor", ["Base", "AWS", "Consul", "Model", "Artifacts", "Decisions", "Observers", "LogForwarding"]),
    smallTarget(
      "Bootstrap", ["Base", "AWS", "Model", "Decisions", "Observers", "Execution", "LogForwarding", "Sidecar"]),
    smallTarget(
      "Commands",
      [
        "Base", "AWS", "Consul", "Model", "Artifacts", "Decisions", "Observers", "Execution", "LogForwarding",
        "Sidecar",
        "Doctor", "Bootstrap", "Host",
      ]),
    .executableTarget(name: "consul-bootstrap", dependencies: ["Commands"], swiftSettings: swiftSettings),
    .target(
      name: "TestSupport", dependencies: ["Base", "AWS", "Consul", "CDeflate"], path: "Tests/TestSupport",
      swiftSettings: swiftSettings),
    test("BaseTests", ["Base", "TestSupport"]),
    test("TestSupportTests", ["Base", "AWS", "Consul", "TestSupport"]),
    test("ArtifactsTests", ["Base", "AWS", "Consul", "Model", "Artifacts"]),
    test("ExecutionTests", ["Base", "AWS", "Consul", "Model", "Execution", "TestSupport"]),
    test("ObserversTests", ["Base", "AWS", "Consul", "Model", "Decisions", "Observers", "TestSupport"]),
    test(
      "SidecarTests",
      ["Base", "AWS", "Consul", "Model", "Decisions", "Observers", "LogForwarding", "Sidecar", "TestSupport"]),
    test(
      "DoctorTests",
      [
        "Base", "AWS", "Consul", "Model", "Artifacts", "Decisions", "Observers", "LogForwarding", "Doctor",
        "TestSupport",
      ]),
    test(
      "BootstrapTests",
      [
        "Base", "AWS", "Consul", "Model", "Decisions", "Observers", "Execution", "LogForwarding", "Sidecar",
        "Bootstrap", "TestSupport",
      ]),
    test("DecisionsTests", ["Base", "Consul", "Model", "Artifacts", "Decisions"]),
    test("LogForwardingTests", ["AWS", "Base", "LogForwarding", "Host", "TestSupport"]),
    test("ConsulTests", ["Base", "Consul", "TestSupport"]),
    test("AWSTests", ["Base", "AWS", "TestSupport"]),
    test("HostTests", ["Base", "AWS", "COpenSSL", "Host"]),
    test("CommandsTests", ["Base", "AWS", "Commands", "Decisions", "Model", "Artifacts", "Observers", "TestSupport"]),
    test("HouseTests", []),
  ]
)
