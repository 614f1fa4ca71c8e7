"""The consumer's phone: an installable app of plain pages below `/my`, Hindi first, that works without JavaScript and opens without a network.

    routes.py    home, deductions, usage, supply: who asks, what is asked, which page is filled
    here.py      who is on the phone, and of which account the page is
    answers.py   what these pages need beyond `townbook`: the balance with what was paid since, hours with their rates, the other tariff
    figures.py   a week and a day as bars in SVG, pure functions
    recharge.py  paying: amounts, a second look, the gateway, how the payment stands
    care.py      complaints and disputes, alerts
    proof.py     the meter's proof: registers, charges, a signature; as a page, a file, and paper (paper.py)
    offline.py   manifest, service worker, and the headers that let them in

What always holds: a consumer sees only accounts of their own; rupees stand before units; what is unknown reads unknown; nothing is chosen
beforehand, hidden, or made harder to refuse than to take; a page that is shown without a network says how old it is.
"""
