// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// A person of the demo: display name, mailNickname, department, title.
type person struct{ display, nick, department, title string }

// demoPeople is a company of 100. The names cover what real directories hold:
// several scripts, letters beyond ASCII in the account name, spaces and
// apostrophes, two people of one name, prefixes over 20 characters.
var demoPeople = []person{
	{"Amélie Dubois", "amelie.dubois", "Finance", "Controller"},
	{"Jürgen Müller", "juergen.mueller", "Finance", "Chief Financial Officer"},
	{"Sofía Hernández Ruiz", "sofia.hernandez", "Finance", "Accountant"},
	{"Marek Dvořák", "marek.dvorak", "Finance", "Accountant"},
	{"Ingrid Sørensen", "ingrid.sorensen", "Finance", "Payroll Officer"},
	{"Þórdís Jónsdóttir", "thordis", "Finance", "Payroll Officer"},
	{"Nguyễn Thị Minh Khai", "nguyen.minhkhai", "Finance", "Analyst"},
	{"Łukasz Wiśniewski", "lukasz.wisniewski", "Finance", "Analyst"},
	{"Chiara D'Angelo", "chiara.dangelo", "Finance", "Treasurer"},
	{"Étienne Lefèvre", "etienne.lefevre", "Finance", "Auditor"},
	{"田中 太郎", "tanaka.taro", "Engineering", "Principal Engineer"},
	{"佐藤 花子", "sato.hanako", "Engineering", "Engineer"},
	{"鈴木 一郎", "suzuki.ichiro", "Engineering", "Engineer"},
	{"王 小明", "wang.xiaoming", "Engineering", "Engineer"},
	{"李 娜", "li.na", "Engineering", "Test Engineer"},
	{"张 伟", "zhang.wei", "Engineering", "Engineer"},
	{"김 민준", "kim.minjun", "Engineering", "Engineer"},
	{"박 서연", "park.seoyeon", "Engineering", "Designer"},
	{"Александр Иванов", "a.ivanov", "Engineering", "Engineer"},
	{"Ольга Петрова", "o.petrova", "Engineering", "Engineer"},
	{"Дмитро Шевченко", "d.shevchenko", "Engineering", "Site Reliability Engineer"},
	{"Γιώργος Παπαδόπουλος", "g.papadopoulos", "Engineering", "Engineer"},
	{"Ελένη Γεωργίου", "e.georgiou", "Engineering", "Engineer"},
	{"محمد الأحمد", "m.alahmad", "Engineering", "Engineer"},
	{"فاطمة الزهراء", "f.zahra", "Engineering", "Engineer"},
	{"דוד כהן", "david.cohen", "Engineering", "Architect"},
	{"יעל לוי", "yael.levi", "Engineering", "Engineer"},
	{"अर्जुन शर्मा", "arjun.sharma", "Engineering", "Engineer"},
	{"Priya Venkataraman", "priya.venkat", "Engineering", "Engineering Manager"},
	{"สมชาย ใจดี", "somchai.jaidee", "Engineering", "Engineer"},
	{"Zoë Kröger", "zoë.kröger", "Engineering", "Engineer"},
	{"Bjørn Åsgård", "bjorn.asgard", "Engineering", "Engineer"},
	{"Siobhán O'Connor", "siobhan.oconnor", "Engineering", "Technical Writer"},
	{"Wolfgang Amadeus Breitenbach-Hohenfels", "wolfgang.breitenbach-hohenfels", "Engineering", "Engineer"},
	{"Grace Nakamura", "grace.nakamura", "Sales", "Head of Sales"},
	{"Liam Murphy", "liam.murphy", "Sales", "Account Manager"},
	{"Olivia Smith", "olivia.smith", "Sales", "Account Manager"},
	{"Noah Williams", "noah.williams", "Sales", "Account Manager"},
	{"John Smith", "john.smith", "Sales", "Sales Engineer"},
	{"John Smith", "john.smith2", "Warehouse", "Forklift Operator"},
	{"Emma García López", "emma.garcia", "Sales", "Account Manager"},
	{"Mateo Fernández", "mateo.fernandez", "Sales", "Account Manager"},
	{"Lucía Núñez", "lucia.nunez", "Sales", "Sales Assistant"},
	{"João Gonçalves", "joao.goncalves", "Sales", "Account Manager"},
	{"Inês Araújo", "ines.araujo", "Sales", "Sales Assistant"},
	{"François Côté", "francois.cote", "Sales", "Account Manager"},
	{"Anaïs Béranger", "anais.beranger", "Sales", "Account Manager"},
	{"Gülşah Yılmaz", "gulsah.yilmaz", "Sales", "Account Manager"},
	{"İbrahim Çelik", "ibrahim.celik", "Sales", "Account Manager"},
	{"Kwame Mensah", "kwame.mensah", "Sales", "Account Manager"},
	{"Adaeze Okonkwo", "adaeze.okonkwo", "Sales", "Account Manager"},
	{"Thabo Nkosi", "thabo.nkosi", "Sales", "Account Manager"},
	{"Nʻōlani Kealoha", "nolani.kealoha", "Sales", "Sales Assistant"},
	{"Tane Ngāta", "tane.ngata", "Sales", "Account Manager"},
	{"Hanna Mäkinen", "hanna.makinen", "Marketing", "Head of Marketing"},
	{"Eero Hämäläinen", "eero.hamalainen", "Marketing", "Photographer"},
	{"Kärt Õunapuu", "kart.ounapuu", "Marketing", "Editor"},
	{"Jānis Bērziņš", "janis.berzins", "Marketing", "Video Editor"},
	{"Rūta Žemaitė", "ruta.zemaite", "Marketing", "Editor"},
	{"Ștefan Țăranu", "stefan.taranu", "Marketing", "Designer"},
	{"Željko Đurić", "zeljko.djuric", "Marketing", "Designer"},
	{"Ágnes Szőke", "agnes.szoke", "Marketing", "Editor"},
	{"Zsófia Kovács", "zsofia.kovacs", "Marketing", "Event Manager"},
	{"Petra Šimić", "petra.simic", "Marketing", "Editor"},
	{"Ľubica Kráľová", "lubica.kralova", "Marketing", "Editor"},
	{"Blerta Hoxha", "blerta.hoxha", "Marketing", "Designer"},
	{"Carlos Oliveira", "carlos.oliveira", "Warehouse", "Warehouse Manager"},
	{"Dwayne Brown", "dwayne.brown", "Warehouse", "Dispatcher"},
	{"Maria Pop", "maria.pop", "Warehouse", "Picker"},
	{"Ahmed Hassan", "ahmed.hassan", "Warehouse", "Picker"},
	{"Piotr Nowak", "piotr.nowak", "Warehouse", "Picker"},
	{"Katarzyna Zając", "katarzyna.zajac", "Warehouse", "Picker"},
	{"Tomáš Novotný", "tomas.novotny", "Warehouse", "Driver"},
	{"Stefano Conti", "stefano.conti", "Warehouse", "Driver"},
	{"Yusuf Abdi", "yusuf.abdi", "Warehouse", "Driver"},
	{"Rosa Jiménez", "rosa.jimenez", "Warehouse", "Picker"},
	{"Andrei Ionescu", "andrei.ionescu", "Warehouse", "Picker"},
	{"Viktória Tóth", "viktoria.toth", "Warehouse", "Quality Control"},
	{"Anneliese Groß", "anneliese.gross", "People & Culture", "Head of People"},
	{"Mehmet Öztürk", "mehmet.ozturk", "People & Culture", "Recruiter"},
	{"Charlotte van den Berg", "charlotte.vdberg", "People & Culture", "Recruiter"},
	{"Daan de Vries", "daan.devries", "People & Culture", "Trainer"},
	{"Saoirse Ní Bhriain", "saoirse.nibhriain", "People & Culture", "Recruiter"},
	{"Owain Llŷr Gruffudd", "owain.gruffudd", "People & Culture", "Trainer"},
	{"Björk Guðmundsdóttir", "bjork.gudmunds", "People & Culture", "Office Manager"},
	{"Nils Lindström", "nils.lindstrom", "IT", "Head of IT"},
	{"Astrid Bergqvist", "astrid.bergqvist", "IT", "System Administrator"},
	{"Ravi Krishnan", "ravi.krishnan", "IT", "System Administrator"},
	{"Fatoumata Diallo", "fatoumata.diallo", "IT", "Network Engineer"},
	{"Miguel Ángel Castaño", "miguel.castano", "IT", "Service Desk"},
	{"Chloé Desjardins-Tremblay", "chloe.desjardins-tremblay", "IT", "Service Desk"},
	{"Henrik Ø. Dahl", "henrik.dahl", "IT", "Service Desk"},
	{"Margarete Weiß", "margarete.weiss", "Geschäftsführung", "Managing Director"},
	{"Richard Featherstonehaugh", "richard.featherstone", "Geschäftsführung", "Managing Director"},
	{"Isabella Rossi", "isabella.rossi", "Geschäftsführung", "Assistant"},
	{"Konstantinos Alexandropoulos", "konstantinos.alexandropoulos", "Sales", "Account Manager"},
	{"Lê Văn Tám", "le.van.tam", "Warehouse", "Picker"},
	{"Мария Димитрова", "maria.dimitrova", "Marketing", "Editor"},
	{"ბექა ჯაფარიძე", "beka.japaridze", "Engineering", "Engineer"},
	{"Արամ Սարգսյան", "aram.sargsyan", "Engineering", "Engineer"},
}

// Exceptional people of the demo, by mailNickname.
const (
	DemoDisabled   = "tane.ngata"     // left the company
	DemoNoPassword = "nolani.kealoha" // has not changed the password since the domain exists
)

// demoTeams nests the departments in one another and in what a NAS grants.
var demoTeams = []struct {
	name    string
	members []string // nicknames, and names of earlier groups after "%"
}{
	{"Payroll", []string{"ingrid.sorensen", "thordis"}},
	{"NAS Admins", []string{"%IT"}},
	{"Projects Read", []string{"%Engineering", "%Sales", "%Marketing"}},
	{"Projects Write", []string{"%Engineering", "hanna.makinen"}},
	{"Month End", []string{"%Payroll", "%Finance", "margarete.weiss"}},
	{"Alle Mitarbeiter", []string{"%Finance", "%Engineering", "%Sales", "%Marketing", "%Warehouse", "%People & Culture", "%IT", "%Geschäftsführung"}},
	{"営業部", []string{"grace.nakamura", "tanaka.taro"}},
}

// demo lists the people and groups of the demo as additions to the directory.
func demo(o DomainOptions) (users, groups []Change) {
	dn := map[string]string{}
	departments := map[string][]string{}
	var order []string
	for _, p := range demoPeople {
		given, surname, _ := strings.Cut(p.display, " ")
		u := User{
			Name: accountName(p.nick), CN: p.display, UPN: p.nick + "@" + o.UPNSuffix, Nick: p.nick,
			Display: p.display, Given: given, Surname: surname, OID: o.oid("person", p.nick), Password: DemoPassword,
			Disabled: p.nick == DemoDisabled,
			Attrs:    map[string][][]byte{"department": Text(p.department), "title": Text(p.title), "company": Text("Contoso")},
		}
		if p.nick == DemoNoPassword {
			u.Password = ""
		}
		if _, taken := dn[p.display]; taken {
			u.CN += " (" + p.nick + ")"
		}
		change := addUser(o, u)
		dn[p.display], dn[p.nick] = change.DN, change.DN
		users = append(users, change)
		if !slices.Contains(order, p.department) {
			order = append(order, p.department)
		}
		departments[p.department] = append(departments[p.department], change.DN)
	}
	// A guest: synchronised, with no password in this domain.
	users = append(users, addUser(o, User{
		Name: "anna_partner.exampl", CN: "Anna Lindqvist (Guest)", UPN: "anna_partner.example#EXT#@" + o.UPNSuffix, Mail: "anna@partner.example",
		Nick: "anna_partner.example#EXT#", Display: "Anna Lindqvist (Guest)", OID: o.oid("person", "guest"),
	}))
	group := func(name string, members []string) {
		change := addGroup(o, Group{Name: name, OID: o.oid("team", name), Members: members})
		dn["%"+name] = change.DN
		groups = append(groups, change)
	}
	for _, name := range order {
		group(name, departments[name])
	}
	for _, team := range demoTeams {
		var members []string
		for _, member := range team.members {
			members = append(members, dn[member])
		}
		group(team.name, members)
	}
	return users, groups
}

// accountName makes a sAMAccountName of a mailNickname. One that is over 20
// characters is replaced by the start of it and a random-looking end; how the
// managed domain spells these is not documented.
func accountName(nick string) string {
	if len([]rune(nick)) <= 20 {
		return nick
	}
	sum := sha256.Sum256([]byte(nick))
	return string([]rune(nick)[:11]) + "-" + hex.EncodeToString(sum[:4])
}
