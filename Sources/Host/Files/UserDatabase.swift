package import Base

/// `/etc/passwd` and `/etc/group`, read as files: the C library's own look-ups would load NSS modules, which a static
/// program must not.
package struct UserDatabase: Sendable {
  private let passwd: String
  private let group: String

  package init(files: any FileReader = LocalFileStore()) {
    let read = { (path: String) in String(decoding: (try? files.readIfPresent(path)) ?? [], as: UTF8.self) }
    passwd = read("/etc/passwd")
    group = read("/etc/group")
  }

  /// A user by name, with its primary group; nil if there is none.
  package func owner(named name: String) -> FileOwner? {
    for fields in Self.entries(passwd) where fields.count >= 4 && fields[0] == name {
      guard let user = UInt32(fields[2]), let group = UInt32(fields[3]) else { return nil }
      return FileOwner(user: user, group: group, userName: name, groupName: groupName(group))
    }
    return nil
  }

  /// The primary group and every group that lists the user.
  func groups(of owner: FileOwner) -> [UInt32] {
    let listed = Self.entries(group).compactMap { fields in
      fields.count >= 4 && fields[3].split(separator: ",").contains(Substring(owner.userName)) ? UInt32(fields[2]) : nil
    }
    return [owner.group] + listed.filter { $0 != owner.group }
  }

  private func groupName(_ number: UInt32) -> String {
    Self.entries(group).first { $0.count >= 3 && UInt32($0[2]) == number }?[0] ?? String(number)
  }

  private static func entries(_ text: String) -> [[String]] {
    text.split(whereSeparator: \.isNewline).map {
      $0.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    }
  }
}
