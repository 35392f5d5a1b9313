"""What the reports' pages are made of: markup, a style sheet, strokes and charts. One file each, opened offline.

markup.py    text that is escaped unless it is markup; sections, tables
style.py     the style sheet: light, dark and paper
drawing.py   strokes; charts.py the charts that more than one report draws
"""
