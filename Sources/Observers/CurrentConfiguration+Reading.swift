package import Base
package import Model

extension CurrentConfiguration {
  /// Reads the agent's configuration file. An unreadable file is not absent.
  package init(reading path: String, _ files: any FileReader) {
    self.init(reading: path, CheckedReader(files))
  }

  init(reading path: String, _ reader: CheckedReader) {
    switch reader.content(path) {
    case .absent: self.init(.absent)
    case .text(let text): self.init(.present(Secret(text)))
    case .unreadable(let reason): self.init(.unreadable(reason: reason))
    }
  }
}
