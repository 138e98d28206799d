"""`headstart recipes`: the tutorials that `fit --recipe` runs."""

from __future__ import annotations

import json

import click


@click.command("recipes")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="One JSON array on standard output.")
def command(name: str | None, as_json: bool) -> None:
    """List the recipes, or print the one called NAME: a TOML file that `fit --config` takes too."""
    from headstart.cli.console import show, table
    from headstart.learn.recipes import load_recipe, recipe_names

    recipes = [load_recipe(wanted) for wanted in ([name] if name else recipe_names())]
    if as_json:
        rows = [
            {
                "name": made.name,
                "title": made.title,
                **{k.lower(): v for k, v in made.about.items()},
                "parameters": made.parameters,
            }
            for made in recipes
        ]
        click.echo(json.dumps(rows, ensure_ascii=False))
        return
    if name:
        click.echo(recipes[0].text, nl=False)
        return
    made = table("recipe", "backbone", "what it does")
    for recipe in recipes:
        made.add_row(recipe.name, recipe.parameters["backbone"], recipe.title)
        made.add_row("", "", f"Cost: {recipe.about['Cost']}", style="dim")
    show(made, "", "Next: headstart fit DATA --recipe NAME; headstart recipes NAME prints it")
