package migrations

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"maps"
	"testing"
)

// frozen contains the checksums of the released migrations, which never change.
var frozen = map[string]string{
	"0000_initial.sqlite.sql":         "517b26ec58003e2ecadd45bb16d0b7e5fe525d4cfa672cd01de43f1fde9618db",
	"0000_initial.postgres.sql":       "5e03ca708555a3de179fa562a9042171ae5dbc0da8f76755784b0dbc5d0ba61a",
	"0001_nodes.postgres.sql":         "9805240c406bc29baf7614e48aa28757fe78c87c26fb31f991f43e34025ef76a",
	"0001_nodes.sqlite.sql":           "753422959c6b7d1d9cef06524ecd1ae132b18f302e882445040c5ce6feeaac29",
	"0002_phone_servers.postgres.sql": "e6757d4a465818dfe43bea0f211eebd6865ff3110bc742112123d3f72a5fd28a",
	"0002_phone_servers.sqlite.sql":   "fc9de5df7ce3bddc6369d1219d39563c0a7ebcc3f3f179d7d760982cf1d55c5f",
	"0003_export.postgres.sql":        "826630478984efc90eb0f244c7f01eb58787e36cc11ead80703b74e5d2b99f82",
	"0003_export.sqlite.sql":          "322a7b5a40a0a98e6be3126e7d8e30a55a217fbdba29eb83272c5a8a3fa563e9",
	"0004_hooks.postgres.sql":         "375b6f848a28036733d7654dc37f92a7f48c0d1dd31c1b33db42173028e0d615",
	"0004_hooks.sqlite.sql":           "98d2cfec6643466e0219aefcd80b8bfe140acff787575ac20cc95308e38bc2d2",
	"0005_delivery.sqlite.sql":        "73870f26feb15755d7d34c5b0e0ce36b20acffbde1b5965675dae85f299536cf",
	"0005_delivery.postgres.sql":      "650c3e1df9aa672f59227e0907d44dda330cd21befcc4b823dd786b9e5012b1f",
	"0006_lang.postgres.sql":          "e44bc2fdc31e68fb5fedb0e6553a3f4d2204de537e024dfb7fa4e85619091f87",
	"0006_lang.sqlite.sql":            "b0ba964488db1bdf266271569e86555924b3b84007bed3a8d881acb64660e456",
	"0007_resend.postgres.sql":        "30172f9fbcd5575d3100ad4b0d5ac1c4be6c3dd2a25f4c3e3c9f43b9a66a9dd0",
	"0007_resend.sqlite.sql":          "801625417979616870e96526a6c050834ba0649c1f7582adf8068fe8f45c258e",
	"0008_confirmed.postgres.sql":     "14a15ef4de54928decb11778154af8d02e67fe7b71355410ba23271f3a753134",
	"0008_confirmed.sqlite.sql":       "14a15ef4de54928decb11778154af8d02e67fe7b71355410ba23271f3a753134",
	"0009_recipient.postgres.sql":     "72802404e6edc1713cd6e530f7735264138d7759dfcace89e8544cdfca27cb5d",
	"0009_recipient.sqlite.sql":       "297b1bc6afb4c29233834f80af22ef12dd85c921bd5e4e3adcde19bb5d40bee0",
	"0010_brand.postgres.sql":         "225c927b2e91d9f2a76e19005cc595eccfe1a9dfdc52849da45dfbf0e56ad693",
	"0010_brand.sqlite.sql":           "8db1b2b0ae1168926f0d61c60be698e4f47280c2aa7eb5fd026a796b4cedda4d",
	"0011_states.postgres.sql":        "78122004aa8dad02235c94b251e857ab6f6cbdd9f85d6c5c4532eccacd9b017e",
	"0011_states.sqlite.sql":          "b897c922300da8a61ead86fcfaccc9ea8ee64e8429be8a21a496955d7bc5fdc1",
	"0012_audit.postgres.sql":         "acd0d67953ef81501f5f5445e36fca9c53016aa40104b54b2c47723549425476",
	"0012_audit.sqlite.sql":           "2ec9a5dff3f0d318b136c0a15114b6ac7e6b8a5de37a1615dd32ae2f219b1ea2",
	"0013_binding.postgres.sql":       "db7604f231ed19f1dabb194f550d1b27947f719364c9121b96be9440c69c9960",
	"0013_binding.sqlite.sql":         "2fe68717e1a597ed6a209546584978965cdd14f2421ae85e491be80ae1c0b745",
	"0014_instance.postgres.sql":      "199cc7833a2cf6fad52847666c89e6e98ba995ee0969ffa7e8b877499867d66c",
	"0014_instance.sqlite.sql":        "f2dba8acfbdbcf3fc68d2fbd7eb1ffa1093a2c4db5e5ab1d361ff2960210f302",
	"0015_people.postgres.sql":        "a204bb960b74f82f4843ab7bdfb79300798a150240cf0169d9d91a636b45387b",
	"0015_people.sqlite.sql":          "51ea0dff15cccd20c70f5bc7b89d0c588ab0214479d09c7805204db6cb4b794d",
	"0016_selfservice.postgres.sql":   "c705abd5c346912de11162bda9e4c8aa6713b4577640747ab38deb97d2d6ba30",
	"0016_selfservice.sqlite.sql":     "dfe80c5e09bf4c84cfd892444234a40b6daa5fde637fcada1dfae6cdfa1630c8",
	"0017_operators.postgres.sql":     "bd63b2c982cd5599c8bfa64602e948842724b3c89936bf6b076b2a7140607b34",
	"0017_operators.sqlite.sql":       "fb23629a22a57d6a9f7592bb2fb01ee7cc105b53c206b1a9eab485af254e0a7c",
	"0018_messages.postgres.sql":      "c2e33c2fe08bfad0b5e0b4f8a05ea81ee29c06ef11666c8a82dfc1624b993eac",
	"0018_messages.sqlite.sql":        "23e86559b21dcf9253fd3d0c73d84dcf9af1c3e0e57dfe59e7e4eebe9bda9026",
	"0019_certificates.postgres.sql":  "19e6f1de4cdfe91927e4d8affb395647fa9fb5c17f29a45ed6ee5d71490458c2",
	"0019_certificates.sqlite.sql":    "884a84c98ad26116a6a0eafebe9014fbec63e95c72752de57614e1e349175a32",
	"0020_links.sqlite.sql":           "3ef74838ca31860c28f22657cf98475302c8360813f6e68ba852ff177239879f",
	"0020_links.postgres.sql":         "3ef74838ca31860c28f22657cf98475302c8360813f6e68ba852ff177239879f",
	"0021_places.sqlite.sql":          "30965dfdaf9ead30ab8c0dfe0f7cdb9197bd9c4c04f3da8e3931d1797bcf88ac",
	"0021_places.postgres.sql":        "30965dfdaf9ead30ab8c0dfe0f7cdb9197bd9c4c04f3da8e3931d1797bcf88ac",
	"0022_waiting_email.sqlite.sql":   "46602052357f8a16e911e1cffd77d24c0a823d0b2832d9d91020bff627cb9df5",
	"0022_waiting_email.postgres.sql": "46602052357f8a16e911e1cffd77d24c0a823d0b2832d9d91020bff627cb9df5",
}

func TestReleasedMigrationsDoNotChange(t *testing.T) {
	missing := maps.Clone(frozen)
	files, err := fs.ReadDir(Files, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		text, err := Files.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(text)
		if got := hex.EncodeToString(sum[:]); got != frozen[f.Name()] {
			t.Errorf("%s has the checksum %s; "+
				"to change the schema, add a file, and its checksum here", f.Name(), got)
		}
		delete(missing, f.Name())
	}
	for name := range missing {
		t.Errorf("%s is missing", name)
	}
}
