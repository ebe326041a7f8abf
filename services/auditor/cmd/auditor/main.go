// Command auditor is Orkestra's auditor service.
package main

import "orkestra.dev/services/auditor"

func main() { auditor.Main() }
