//! Another implementation of the curves, from the formulas of RFC 7748 and of elementary textbooks, slow and with branches:
//! ring takes no private key from outside, so it is compared with this one, which the vectors have proved.

use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
use crypto_bigint::{Odd, Uint};

/// Octets of a limb.
const LIMB: usize = crypto_bigint::Limb::BYTES;

type Element<const L: usize> = FixedMontyForm<L>;

/// The integers modulo a prime.
struct Field<const L: usize>(FixedMontyParams<L>);

impl<const L: usize> Field<L> {
    fn new(prime: &str) -> Self {
        let prime = Uint::<L>::from_be_hex(prime);
        Self(FixedMontyParams::new_vartime(Odd::new(prime).into_option().unwrap()))
    }

    fn element(&self, octets: &[u8]) -> Element<L> {
        FixedMontyForm::new(&Uint::from_be_slice(octets), &self.0)
    }

    fn hex(&self, digits: &str) -> Element<L> {
        FixedMontyForm::new(&Uint::from_be_hex(digits), &self.0)
    }

    fn small(&self, number: u32) -> Element<L> {
        FixedMontyForm::new(&Uint::from_u32(number), &self.0)
    }

    /// By Fermat: a^(p - 2).
    fn invert(&self, a: Element<L>) -> Element<L> {
        let exponent = self.0.modulus().as_ref().wrapping_sub(&Uint::from_u32(2));
        a.pow(&exponent)
    }
}

fn octets<const L: usize>(element: Element<L>) -> Vec<u8> {
    element.retrieve().to_be_bytes().as_ref().to_vec()
}

/// From the first bit that is set.
fn bits(scalar: &[u8]) -> impl Iterator<Item = bool> {
    let all = scalar.iter().flat_map(|octet| (0..8).rev().map(move |bit| octet >> bit & 1 == 1));
    all.skip_while(|bit| !bit)
}

/// y^2 = x^3 - 3x + b.
pub struct Weierstrass<const L: usize> {
    field: Field<L>,
    generator: (Element<L>, Element<L>),
}

/// In Jacobian coordinates: x / z^2, y / z^3; `None` is the point at infinity.
type Point<const L: usize> = Option<[Element<L>; 3]>;

pub fn p256() -> Weierstrass<{ 32 / LIMB }> {
    Weierstrass::new(
        "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff",
        "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296",
        "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5",
    )
}

pub fn p384() -> Weierstrass<{ 48 / LIMB }> {
    Weierstrass::new(
        "fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffeffffffff0000000000000000ffffffff",
        "aa87ca22be8b05378eb1c71ef320ad746e1d3b628ba79b9859f741e082542a385502f25dbf55296c3a545e3872760ab7",
        "3617de4a96262c6f5d9e98bf9292dc29f8f41dbd289a147ce9da3113b5f0b8c00a60b1ce1d7e819d7a431d7c90ea0e5f",
    )
}

impl<const L: usize> Weierstrass<L> {
    fn new(prime: &str, x: &str, y: &str) -> Self {
        let field = Field::new(prime);
        let generator = (field.hex(x), field.hex(y));
        Self { field, generator }
    }

    /// The public value of a private one, x || y.
    pub fn public(&self, private: &[u8]) -> Vec<u8> {
        let (x, y) = self.multiply(private, self.generator);
        [octets(x), octets(y)].concat()
    }

    /// The x coordinate of the product with the point x || y.
    pub fn agree(&self, private: &[u8], public: &[u8]) -> Vec<u8> {
        let (x, y) = public.split_at(public.len() / 2);
        octets(self.multiply(private, (self.field.element(x), self.field.element(y))).0)
    }

    fn multiply(&self, scalar: &[u8], (x, y): (Element<L>, Element<L>)) -> (Element<L>, Element<L>) {
        let base = [x, y, self.field.small(1)];
        let mut product: Point<L> = None;
        for bit in bits(scalar) {
            product = product.map(|point| self.double(point));
            if bit {
                product = self.add(product, base);
            }
        }
        let [x, y, z] = product.unwrap();
        let inverse = self.field.invert(z);
        let square = inverse.square();
        (x * square, y * square * inverse)
    }

    fn double(&self, [x, y, z]: [Element<L>; 3]) -> [Element<L>; 3] {
        let [two, three, eight] = [2, 3, 8].map(|number| self.field.small(number));
        let s = two * two * x * y.square();
        let m = three * (x.square() - z.square().square());
        let x3 = m.square() - two * s;
        [x3, m * (s - x3) - eight * y.square().square(), two * y * z]
    }

    fn add(&self, a: Point<L>, b: [Element<L>; 3]) -> Point<L> {
        let Some(a) = a else { return Some(b) };
        let ([x1, y1, z1], [x2, y2, z2]) = (a, b);
        let (u1, u2) = (x1 * z2.square(), x2 * z1.square());
        let (s1, s2) = (y1 * z2.square() * z2, y2 * z1.square() * z1);
        if u1 == u2 {
            return (s1 == s2).then(|| self.double(a));
        }
        let (h, r) = (u2 - u1, s2 - s1);
        let (h2, two) = (h.square(), self.field.small(2));
        let x3 = r.square() - h2 * h - two * u1 * h2;
        Some([x3, r * (u1 * h2 - x3) - s1 * h2 * h, h * z1 * z2])
    }
}

/// RFC 7748 section 5.
pub fn x25519(private: &[u8], public: &[u8]) -> Vec<u8> {
    let field: Field<{ 32 / LIMB }> =
        Field::new("7fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffed");
    let mut scalar: Vec<u8> = private.iter().rev().copied().collect();
    scalar[0] = scalar[0] & 0x7f | 0x40;
    scalar[31] &= 0xf8;
    let mut u: Vec<u8> = public.iter().rev().copied().collect();
    u[0] &= 0x7f;
    let x1 = field.element(&u);
    let a24 = field.small(121_665);
    let (mut x2, mut z2, mut x3, mut z3) = (field.small(1), field.small(0), x1, field.small(1));
    for bit in bits(&scalar) {
        if bit {
            ((x2, z2), (x3, z3)) = ((x3, z3), (x2, z2));
        }
        let (a, b, c, d) = (x2 + z2, x2 - z2, x3 + z3, x3 - z3);
        let (da, cb) = (d * a, c * b);
        (x3, z3) = ((da + cb).square(), x1 * (da - cb).square());
        let e = a.square() - b.square();
        (x2, z2) = (a.square() * b.square(), e * (a.square() + a24 * e));
        if bit {
            ((x2, z2), (x3, z3)) = ((x3, z3), (x2, z2));
        }
    }
    let mut shared = octets(x2 * field.invert(z2));
    shared.reverse();
    shared
}
