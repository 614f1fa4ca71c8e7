"""The consoles: what a town's day looks like to the control room and to a consumer; server-drawn, readable without JavaScript.

    townbook.py   what the pages ask, and the answers' shape (`TownReader`)
    app.py        routes: parameters checked, answers asked, pages filled, safe headers
    charts.py     curves and bars as SVG, pure functions
    wording.py    English and Hindi: sentences, numbers, dates, quality and check names
"""
