#!/bin/sh
# Makes the certificates, keys and signatures of the unit tests anew, with OpenSSL. The keys protect nothing.
set -eu
cd "$(dirname "$0")"
rm -f ./*.pem ./*.der ./*.sig
printf 'the signed octets' > message.txt

# request NAME SUBJECT: a request for NAME.key.pem
request() { openssl req -new -key "$1.key.pem" -subj "$2" -out tmp.csr; }
# issue NAME ISSUER DAYS EXTENSIONS: NAME.cert.pem from the last request
issue() {
    printf '%b' "$4" > tmp.ext
    openssl x509 -req -in tmp.csr -CA "$2.cert.pem" -CAkey "$2.key.pem" -days "$3" -sha256 \
        -set_serial "0x$(openssl rand -hex 8)" -extfile tmp.ext -out "$1.cert.pem" 2> /dev/null
}
ec_key() { openssl ecparam -name "$2" -genkey -noout -out "$1.key.pem"; } # SEC1
pkcs8() { openssl pkcs8 -topk8 -nocrypt -in "$1.key.pem" -out "$1.pkcs8.pem"; }

leaf='basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n'
authority='basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n'

ec_key root prime256v1
openssl req -new -x509 -key root.key.pem -subj '/O=Example/CN=Test Root' -days 36500 -sha256 \
    -addext 'keyUsage=critical,keyCertSign' -out root.cert.pem
ec_key other-root prime256v1
openssl req -new -x509 -key other-root.key.pem -subj '/CN=Other Root' -days 36500 -sha256 -out other-root.cert.pem
ec_key middle secp384r1
request middle '/CN=Test Intermediate'
issue middle root 36500 "$authority"

# Clients by key. The P-256 one hangs below the intermediate and is valid for one year only.
ec_key p256 prime256v1; pkcs8 p256
request p256 '/C=DE/O=Example/CN=Anna'
issue p256 middle 365 "${leaf}subjectAltName=DNS:laptop.example.com,email:anna@example.com,IP:192.0.2.7,IP:2001:db8::7,URI:urn:x\n"
ec_key p384 secp384r1; pkcs8 p384
request p384 '/CN=P-384'; issue p384 root 36500 "$leaf"
openssl genrsa -traditional -out rsa.key.pem 2048 2> /dev/null; pkcs8 rsa # PKCS#1
request rsa '/CN=RSA'; issue rsa root 36500 "$leaf"
openssl genpkey -algorithm ed25519 -out ed25519.key.pem
request ed25519 '/CN=Ed25519'; issue ed25519 root 36500 "$leaf"
ec_key p521 secp521r1; pkcs8 p521
request p521 '/CN=P-521'; issue p521 root 36500 "$leaf"
openssl pkcs8 -topk8 -in p256.key.pem -passout pass:secret -out encrypted.pkcs8.pem
openssl ecparam -name prime256v1 -genkey -out with-params.key.pem # "EC PARAMETERS" in front
openssl genrsa -out rsa1024.key.pem 1024 2> /dev/null
# An exponent of 3. Nobody needs to sign with it.
openssl genrsa -3 -out rsa-e3.key.pem 2048 2> /dev/null
openssl req -new -x509 -key rsa-e3.key.pem -subj '/CN=RSA with exponent 3' -days 36500 -sha256 -out rsa-e3.cert.pem

# Clients by usage, all for the P-256 key.
cp p256.key.pem usage.key.pem
for usage in serverAuth clientAuth 1.3.6.1.5.5.7.3.17 1.3.6.1.5.5.8.2.2 anyExtendedKeyUsage codeSigning; do
    request usage "/CN=$usage"; issue "eku-$usage" root 36500 "${leaf}extendedKeyUsage=$usage\n"
done
request usage '/CN=encipher'; issue encipher root 36500 'keyUsage=keyEncipherment\n'
request usage '/CN=non-repudiation'; issue non-repudiation root 36500 'keyUsage=nonRepudiation\n'
request usage '/CN=bare'; issue bare root 36500 'basicConstraints=CA:FALSE\n'
# Below the P-256 client, which is no authority.
request usage '/CN=below'; issue below p256 36500 "$leaf"

# Chains that nobody here can check: an authority on P-521, and a certificate signed with SHA-1.
ec_key p521-root secp521r1
openssl req -new -x509 -key p521-root.key.pem -subj '/CN=P-521 Root' -days 36500 -sha512 -out p521-root.cert.pem
request usage '/CN=below P-521'; issue below-p521 p521-root 36500 "$leaf"
openssl x509 -req -in tmp.csr -CA root.cert.pem -CAkey root.key.pem -days 36500 -sha1 -set_serial 5 \
    -extfile tmp.ext -out sha1.cert.pem 2> /dev/null

# Signatures that ring cannot make.
openssl dgst -sha1 -sign rsa.key.pem -out rsa-sha1.sig message.txt
openssl dgst -sha384 -sign p256.key.pem -out p256-sha384.sig message.txt
openssl dgst -sha256 -sign p384.key.pem -out p384-sha256.sig message.txt
openssl pkeyutl -sign -rawin -inkey ed25519.key.pem -in message.txt -out ed25519.sig
for bits in 256 384 512; do
    openssl dgst -sha$bits -sign rsa.key.pem -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest \
        -out rsa-pss-sha$bits.sig message.txt
done

# Nothing is signed with these: only their certificates are wanted.
rm -f tmp.* usage.key.pem root.key.pem p521-root.key.pem other-root.key.pem middle.key.pem ed25519.key.pem \
    rsa-e3.key.pem ./*.srl
